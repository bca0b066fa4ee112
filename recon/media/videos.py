"""Videos and animated GIFs: written through imageio, decoded with PyAV.

Decoding uses PyAV itself, because imageio's pyav plugin

- does not return the decoder's flag for damaged frames;
- does not apply the display rotation of phone videos;
- always uses FFmpeg's own VP8 and VP9 decoders, which drop the alpha channel;
- cannot return the presentation times of all frames without decoding them;
- converts every frame up to a selected one, which takes longer than decoding it.

Letters: T frames, H × W pixels. Pixels are 8-bit sRGB.
"""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import imageio.v3 as iio
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from imageio.plugins.pillow import PillowPlugin
from imageio.plugins.pyav import PyAVPlugin

from recon.errors import GridError
from recon.media.images import MAX_SIDE

MAX_VIDEO_BYTES = 8 * 2**30
MAX_RATE_DENOMINATOR = 1001  # 29.97 frames per second are 30000/1001
GIF_MIN_DELAY_CS = 2  # players show frames with a shorter delay for a tenth of a second
_BAD_VIDEO = (OSError, FFmpegError, ValueError, StopIteration, IndexError)
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_ALL = range(sys.maxsize)
_LOCAL = {"protocol_whitelist": "file"}  # so that a disguised playlist cannot use the network


class Video(NamedTuple):
    """A decoded video.

    Attributes:
        frames: sRGB, with straight alpha if any frame is not opaque, uint8, [T, H, W, 3 or 4].
        fps: frames per second.
    """

    frames: np.ndarray
    fps: float


def write_gif(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write an animated GIF that loops forever.

    Args:
        path: Output file, replaced if it exists.
        frames: Each uint8, [H, W, 3], at least one.
        fps: Frames per second; GIF rounds the delay between frames to hundredths of a second.
    """
    delay_ms = 10 * max(GIF_MIN_DELAY_CS, round(100 / fps))
    with iio.imopen(path, "w", plugin="pillow", extension=".gif") as file:
        assert isinstance(file, PillowPlugin)
        for frame in frames:
            file.write(frame, is_batch=False, duration=delay_ms, loop=0)


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write an H.264 video in yuv420p, which every player supports.

    The pixel format needs even sides; the last row or column of an odd side is repeated.

    Args:
        path: Output file ending in .mp4, replaced if it exists.
        frames: Each uint8, [H, W, 3], all of one size.
        fps: Frames per second.
    """
    rate = Fraction(fps).limit_denominator(MAX_RATE_DENOMINATOR)
    with _frozen_heap():
        with iio.imopen(path, "w", plugin="pyav") as file:
            assert isinstance(file, PyAVPlugin)
            file.init_video_stream("libx264", fps=float(rate), pixel_format="yuv420p")
            for frame in frames:
                height, width = frame.shape[:2]
                is_even = height % 2 == width % 2 == 0
                padding = ((0, height % 2), (0, width % 2), (0, 0))
                file.write_frame(frame if is_even else np.pad(frame, padding, mode="edge"))
        del file  # its destructor closes it again


@contextmanager
def _frozen_heap() -> Iterator[None]:
    """Exempt all existing objects from garbage collection.

    imageio's pyav plugin runs two full collections for every video that it closes, which take 0.4 s
    together once torch and the networks are loaded.
    """
    if gc.get_freeze_count() > 0:  # frozen by the application, which may rely on it
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def read_video(path: str | Path) -> Video:
    """Read all frames of a video or an animated GIF.

    Raises:
        GridError: The file is missing, damaged or too large, or has no frames.
    """
    path = Path(path)
    with _opened_video(path) as (container, stream):
        fps = _frame_rate(stream, path)
        frames = list(_decoded(container, stream, path, keep=_ALL))
    if not frames:
        raise GridError("the video has no frames", path)
    return Video(_stack(frames), fps)


def read_video_times(path: str | Path) -> np.ndarray:
    """Read the presentation times of a video's frames from its index, without decoding.

    Returns:
        Seconds since the first frame, ascending, float64, [T]; T may be 0.

    Raises:
        GridError: The file is missing, damaged or too large.
    """
    path = Path(path)
    with _opened_video(path) as (container, stream):
        fps = _frame_rate(stream, path)
        stamps = [
            packet.pts
            for packet in container.demux(stream)
            if packet.size and not packet.is_discard  # frames before an edit list's start
        ]
        known = sorted(stamp for stamp in stamps if stamp is not None)
        if len(known) == len(stamps) == len(set(known)) and stream.time_base is not None:
            ticks = np.array(known, dtype=np.float64) - min(known, default=0)
            return float(stream.time_base) * ticks
        return np.arange(len(stamps)) / fps


def read_video_frames(path: str | Path, indices: Sequence[int]) -> np.ndarray:
    """Read selected frames of a video; memory grows with their number only.

    Args:
        path: Video or animated GIF.
        indices: Indices of frames into `read_video_times`, in any order, at least one.

    Returns:
        sRGB, with straight alpha if any frame is not opaque, uint8, [len(indices), H, W, 3 or 4].

    Raises:
        GridError: As in `read_video`, or the video has fewer frames.
    """
    path = Path(path)
    wanted = sorted(set(indices))
    with _opened_video(path) as (container, stream):
        frames = list(_decoded(container, stream, path, keep=wanted, last=wanted[-1]))
    if len(frames) < len(wanted):
        raise GridError(
            f"frame {wanted[len(frames)]} cannot be decoded; the video is damaged or its codec is "
            "not supported, convert it to H.264 first",
            path,
        )
    return _stack([frames[wanted.index(index)] for index in indices])


@contextmanager
def _opened_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video, check its header, and yield the container and its first video stream."""
    try:
        if not path.is_file():
            raise GridError("the video is missing", path)
        _check_gif_end(path)
        with av.open(str(path.resolve()), options=_LOCAL) as container:
            if not container.streams.video:
                raise GridError("expected a video, found no video stream in the file", path)
            stream = container.streams.video[0]
            _check_header(stream, path)
            yield container, stream
    except _BAD_VIDEO as error:
        raise GridError(f"cannot be read as a video ({_reason(error)})", path) from error


def _reason(error: Exception) -> str:
    """Return the sentence of an error of FFmpeg, without its number and path."""
    return getattr(error, "strerror", None) or str(error)


def _check_gif_end(path: Path) -> None:
    """Refuse a truncated GIF: FFmpeg would decode the frames that are left without complaint."""
    with path.open("rb") as file:
        if file.read(4) != b"GIF8":
            return
        file.seek(max(4, path.stat().st_size - 512))
        if not file.read().rstrip(b"\0").endswith(b";"):
            raise GridError("cannot be read as a video (the GIF is truncated)", path)


def _check_header(stream: VideoStream, path: Path) -> None:
    context = stream.codec_context
    if context is None:
        raise GridError("the codec of the video is not supported; convert it to H.264 first", path)
    if max(context.height, context.width) > MAX_SIDE:
        raise GridError(
            f"expected at most {MAX_SIDE} pixels per side, found {context.width}×{context.height}; "
            "resize the video",
            path,
        )


def _frame_rate(stream: VideoStream, path: Path) -> float:
    fps = float(stream.guessed_rate or math.nan)
    if not (math.isfinite(fps) and fps > 0):
        raise GridError("the video has no valid frame rate; convert it to H.264 first", path)
    return fps


def _decoded(
    container: InputContainer,
    stream: VideoStream,
    path: Path,
    keep: Container[int],
    last: int | None = None,
) -> Iterator[np.ndarray]:
    """Yield the frames to keep in presentation order, up to the index `last`, [H, W, 3 or 4]."""
    kept_bytes, shape = 0, None
    for index, frame in enumerate(_video_frames(container, stream)):
        if index in keep:
            if frame.is_corrupt:
                raise GridError(f"frame {index} of the video is damaged", path)
            array = _array(frame)
            shape = shape or array.shape
            if array.shape != shape:
                raise GridError(f"frame {index} of the video differs in size from the first", path)
            kept_bytes += array.nbytes
            if kept_bytes > MAX_VIDEO_BYTES:
                raise GridError(
                    f"expected at most {MAX_VIDEO_BYTES >> 30} GiB of decoded frames; shorten or "
                    "resize the video",
                    path,
                )
            yield array
        if index == last:
            return


def _video_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
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
    """Stack frames; alpha is dropped if it is opaque in all of them."""
    has_alpha = frames[0].shape[-1] == 4 and any((frame[..., 3] < 255).any() for frame in frames)
    return np.stack([frame if has_alpha else frame[..., :3] for frame in frames])
