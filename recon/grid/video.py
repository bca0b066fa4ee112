"""Videos as arrays: any container that FFmpeg reads, written as H.264 for every player.

Letters: T frames, H × W pixels. Frames stand as players show them: turned where the file says so.
Decoding streams: only frames that are asked for are converted and kept. What it does not know:
cameras.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from recon.errors import GridError
from recon.grid.images import MAX_SIDE

MAX_VIDEO_BYTES = 8 * 2**30
MAX_RATE_DENOMINATOR = 1001  # what 29.97 frames a second take
_UNREADABLE = (OSError, FFmpegError, ValueError, StopIteration, IndexError)
# FFmpeg's own decoders of these codecs drop the alpha that WebM keeps beside the picture.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_ALL = range(sys.maxsize)
_LOCAL = {"protocol_whitelist": "file"}  # a playlist in disguise reaches no network


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
    with _opened(path) as (container, stream):
        fps = _frame_rate(stream, path)
        frames = list(_decoded(container, stream, path, keep=_ALL))
    if not frames:
        raise GridError("the video has no frames", path)
    return Video(_stack(frames), fps)


def read_video_times(path: str | Path) -> np.ndarray:
    """When the frames of a video are shown, from the file's index, without decoding.

    Returns:
        Seconds since the first frame, ascending, float64, [T]; T may be 0.

    Raises:
        GridError: it is missing, damaged or absurdly large.
    """
    path = Path(path)
    with _opened(path) as (container, stream):
        fps = _frame_rate(stream, path)
        stamps = [
            packet.pts
            for packet in container.demux(stream)
            if packet.size and not packet.is_discard  # what an edit cut off is still in the file
        ]
        known = sorted(stamp for stamp in stamps if stamp is not None)
        if len(known) == len(stamps) == len(set(known)) and stream.time_base is not None:
            return float(stream.time_base) * (
                np.array(known, dtype=np.float64) - min(known, default=0)
            )
        return np.arange(len(stamps)) / fps


def read_video_frames(path: str | Path, indices: Sequence[int]) -> np.ndarray:
    """Some frames of a video; the memory needed grows with their number, not with the video's.

    Args:
        path: of the video.
        indices: of the frames in the order of `read_video_times`, in any order, at least one.

    Returns:
        sRGB, with straight alpha if it is not opaque in all of them, uint8,
        [len(indices), H, W, 3 or 4].

    Raises:
        GridError: as `read_video`, or the video has fewer frames.
    """
    path = Path(path)
    wanted = sorted(set(indices))
    with _opened(path) as (container, stream):
        frames = list(_decoded(container, stream, path, keep=wanted, last=wanted[-1]))
    if len(frames) < len(wanted):
        raise GridError(
            f"frame {wanted[len(frames)]} cannot be decoded; the video is damaged or of a rare "
            "kind, convert it to H.264 first",
            path,
        )
    return _stack([frames[wanted.index(index)] for index in indices])


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes an H.264 video (yuv420p, plays everywhere).

    Odd sizes are made even by repeating the last row or column, as the pixel format asks for.

    Args:
        path: ends in .mp4; an existing file is replaced, so go through `output_file` for results.
        frames: each uint8, [H, W, 3], all of one size.
        fps: frames a second.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(fps).limit_denominator(MAX_RATE_DENOMINATOR)
        )
        for frame in frames:
            height, width = frame.shape[:2]
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if not stream.codec_context.is_open:
                stream.height, stream.width = even.shape[:2]
                stream.pix_fmt = "yuv420p"
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream, after a look at the header."""
    try:
        if not path.is_file():
            raise GridError("the video is missing", path)
        _check_end(path)
        with av.open(str(path.resolve()), options=_LOCAL) as container:
            if not container.streams.video:
                raise GridError("there is no video in it", path)
            stream = container.streams.video[0]
            _check_header(stream, path)
            yield container, stream
    except _UNREADABLE as error:
        raise GridError(f"cannot be read as a video ({error})", path) from error


def _check_end(path: Path) -> None:
    """Refuses a GIF that is cut off: FFmpeg would show the frames that are left, as if all."""
    with path.open("rb") as file:
        if file.read(4) != b"GIF8":
            return
        file.seek(max(4, path.stat().st_size - 512))
        if not file.read().rstrip(b"\0").endswith(b";"):
            raise GridError("cannot be read as a video (the GIF is cut off in the middle)", path)


def _check_header(stream: VideoStream, path: Path) -> None:
    context = stream.codec_context
    if context is None:
        raise GridError("video of an unknown codec; convert it to H.264 first", path)
    if max(context.height, context.width) > MAX_SIDE:
        raise GridError(
            f"{context.width}×{context.height} pixels; at most {MAX_SIDE} on a side are read", path
        )


def _frame_rate(stream: VideoStream, path: Path) -> float:
    fps = float(stream.guessed_rate or math.nan)
    if not (math.isfinite(fps) and fps > 0):
        raise GridError("the video does not say how many frames a second it has", path)
    return fps


def _decoded(
    container: InputContainer,
    stream: VideoStream,
    path: Path,
    keep: Container[int],
    last: int | None = None,
) -> Iterator[np.ndarray]:
    """The frames to keep in the order of their times, up to the index `last`, [H, W, 3 or 4]."""
    kept_bytes, shape = 0, None
    for index, frame in enumerate(_pictures(container, stream)):
        if index in keep:
            if frame.is_corrupt:
                raise GridError(f"frame {index} of the video is damaged", path)
            array = _array(frame)
            shape = shape or array.shape
            if array.shape != shape:
                raise GridError(f"frame {index} of the video has another size than the first", path)
            kept_bytes += array.nbytes
            if kept_bytes > MAX_VIDEO_BYTES:
                raise GridError(
                    f"more than {MAX_VIDEO_BYTES >> 30} GiB of frames; cut it first", path
                )
            yield array
        if index == last:
            return


def _pictures(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    decoder = _ALPHA_DECODERS.get(stream.codec_context.name)
    if decoder is None or stream.metadata.get("alpha_mode") != "1":
        stream.thread_type = "AUTO"
        yield from container.decode(stream)
        return
    context = av.CodecContext.create(decoder, "r")
    assert isinstance(context, VideoCodecContext)
    for packet in container.demux(stream):
        yield from context.decode(packet if packet.size else None)


def _array(frame: VideoFrame) -> np.ndarray:
    has_alpha = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
    array = frame.to_ndarray(format="rgba" if has_alpha else "rgb24")
    return np.rot90(array, round(frame.rotation / 90))


def _stack(frames: Sequence[np.ndarray]) -> np.ndarray:
    """All frames in one array, without alpha where it is opaque in all of them."""
    has_alpha = frames[0].shape[-1] == 4 and any((frame[..., 3] < 255).any() for frame in frames)
    return np.stack([frame if has_alpha else frame[..., :3] for frame in frames])
