"""Videos as arrays: any container that FFmpeg reads, written as H.264 for every player.

Letters: T frames, H × W pixels. What it does not know: cameras.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import imageio.v3 as iio
import numpy as np
from av.error import FFmpegError
from imageio.plugins.pyav import PyAVPlugin

from recon.errors import GridError
from recon.grid.images import MAX_SIDE

MAX_VIDEO_BYTES = 8 * 2**30
_UNREADABLE = (OSError, FFmpegError, ValueError, StopIteration, IndexError)


class Video(NamedTuple):
    """The frames of a video.

    Attributes:
        frames: sRGB, with straight alpha where the video has any, uint8, [T, H, W, 3 or 4].
        fps: frames a second.
    """

    frames: np.ndarray
    fps: float


def read_video(path: str | Path) -> Video:
    """Reads all frames of a video or an animated GIF.

    Raises:
        GridError: it is missing, empty, damaged or absurdly large.
    """
    path = Path(path)
    if not path.is_file():
        raise GridError("the video is missing", path)
    try:
        with iio.imopen(path, "r", plugin="pyav") as file:
            assert isinstance(file, PyAVPlugin)
            fps, has_alpha = _look(file, path)
            frames = _decode(file, "rgba" if has_alpha else "rgb24", path)
    except AttributeError as error:  # imageio looks for the codec of a stream that has none
        raise GridError("of an unknown codec; convert the video to H.264 first", path) from error
    except _UNREADABLE as error:
        raise GridError(f"cannot be read as a video ({error})", path) from error
    if has_alpha and (frames[..., 3] == 255).all():
        frames = frames[..., :3]
    return Video(frames, fps)


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes an H.264 video (yuv420p, plays everywhere).

    Odd sizes are made even by repeating the last row or column, as the pixel format asks for.

    Args:
        path: ends in .mp4; an existing file is replaced, so go through `output_file` for results.
        frames: each uint8, [H, W, 3], all of one size.
        fps: frames a second.
    """
    with iio.imopen(path, "w", plugin="pyav") as file:
        assert isinstance(file, PyAVPlugin)
        file.init_video_stream("libx264", fps=fps, pixel_format="yuv420p")
        for frame in frames:
            height, width = frame.shape[:2]
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            file.write_frame(np.ascontiguousarray(even))


def _look(file: PyAVPlugin, path: Path) -> tuple[float, bool]:
    """Frames a second and whether there is alpha, from the header."""
    metadata = file.metadata()
    height, width = file.properties(index=0).shape[:2]
    if max(height, width) > MAX_SIDE:
        raise GridError(f"{width}×{height} pixels; at most {MAX_SIDE} on a side are read", path)
    fps = float(metadata.get("fps") or math.nan)
    if not (math.isfinite(fps) and fps > 0):
        raise GridError("the video does not say how many frames a second it has", path)
    return fps, metadata["video_format"] in ("bgra", "rgba", "argb", "yuva420p", "pal8")


def _decode(file: PyAVPlugin, pixel_format: str, path: Path) -> np.ndarray:
    frames: list[np.ndarray] = []
    for frame in file.iter(format=pixel_format):
        frames.append(frame)
        if len(frames) * frame.nbytes > MAX_VIDEO_BYTES:
            raise GridError(f"more than {MAX_VIDEO_BYTES >> 30} GiB of frames; cut it first", path)
    if not frames:
        raise GridError("the video has no frames", path)
    return np.stack(frames)
