"""Reading of clips from one file: videos, GIFs, and images, animated or not.

Videos and GIFs are decoded with PyAV itself, because imageio's pyav plugin

- does not return the decoder's flag for damaged frames;
- does not apply the display rotation of phone videos;
- always uses FFmpeg's own VP8 and VP9 decoders, which drop the alpha channel;
- cannot return the presentation times of all frames without decoding them;
- converts every frame up to a selected one, which takes longer than decoding it.

Letters: T frames, H × W pixels. Pixels are 8-bit sRGB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from recon.errors import GridError
from recon.media.animations import animation_frames, animation_times
from recon.media.display import display_of
from recon.media.images import MAX_SIDE, is_image_file

SINGLE_FRAME_FPS = 10.0
MAX_VIDEO_BYTES = 8 * 2**30
_BAD_VIDEO = (OSError, FFmpegError, ValueError, StopIteration, IndexError)
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_LOCAL = {"protocol_whitelist": "file"}  # so that a disguised playlist cannot use the network
_INDEXED_FORMATS = ("mp4", "matroska", "gif")  # whose packets tell the times of all frames
_TEXT_FORMAT = "tty"  # FFmpeg draws the characters of text files, known by their suffix
_NO_FILM = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_DEINTERLACE = "mode=send_frame:deint=interlaced"  # one frame for two fields


class Video(NamedTuple):
    """A decoded video.

    Attributes:
        frames: sRGB, with straight alpha if any frame is not opaque, uint8, [T, H, W, 3 or 4].
        times: seconds since the first frame, ascending, float64, [T].
        fps: frames per second at which T frames play in the video's time.
    """

    frames: np.ndarray
    times: np.ndarray
    fps: float


class Timeline(NamedTuple):
    """What identifies each frame of a video, in the order in which they are shown.

    Attributes:
        keys: presentation times in units of the stream's time base, or the running numbers of the
            frames if the file has no times; ascending, T of them.
        are_times: which of the two.
    """

    keys: tuple[int, ...]
    are_times: bool

    def only(self, indices: Sequence[int]) -> Timeline:
        """Return the timeline of some frames, by ascending index; those beyond the end drop out."""
        known = [index for index in indices if index < len(self.keys)]
        return Timeline(tuple(self.keys[index] for index in known), self.are_times)


def read_video(path: str | Path) -> Video:
    """Read all frames of a video, a GIF or an image, animated or not.

    Frames are as players show them: upright, with square pixels, HDR mapped to sRGB, interlaced
    ones deinterlaced.

    Raises:
        GridError: The file is missing, damaged or too large, or has no frames.
    """
    path = Path(path)
    if _is_image(path):
        times = animation_times(path)
        shown = list(_within_limits(animation_frames(path, range(len(times))), path))
    else:
        with _opened_video(path) as (container, stream):
            shown = list(_within_limits(_shown_frames(container, stream), path))
            times = _seconds(_timeline([pts for pts, _ in shown]), stream, path)
    if not shown:
        raise GridError("the video has no frames", path)
    return Video(_stack([frame for _, frame in shown]), times, playback_rate(times))


def playback_rate(times: np.ndarray) -> float:
    """Return the frames per second at which frames take as long as between the first and the last.

    Args:
        times: seconds, ascending, [T].

    Returns:
        The rate, rounded to four decimals; 10 for a single frame.
    """
    if len(times) < 2:
        return SINGLE_FRAME_FPS
    return round((len(times) - 1) / float(times[-1] - times[0]), 4)


def read_video_times(path: str | Path) -> np.ndarray:
    """Read the times at which the frames of a video, a GIF or an image appear.

    Times come from the index of the file if it has one, else from decoding all frames.

    Returns:
        Seconds since the first frame, ascending, float64, [T]; T may be 0.

    Raises:
        GridError: The file is missing, damaged or too large.
    """
    path = Path(path)
    if _is_image(path):
        return animation_times(path)
    with _opened_video(path) as (container, stream):
        return _seconds(_read_timeline(container, stream), stream, path)


def read_video_frames(path: str | Path, indices: Sequence[int]) -> np.ndarray:
    """Read selected frames as `read_video` does; memory grows with their number only.

    Args:
        path: Video, GIF or image.
        indices: Indices of frames into `read_video_times`, in any order, at least one.

    Returns:
        sRGB, with straight alpha if any frame is not opaque, uint8, [len(indices), H, W, 3 or 4].

    Raises:
        GridError: As in `read_video`, or the video has fewer frames.
    """
    path = Path(path)
    wanted = sorted(set(indices))
    frames = [frame for _, frame in _within_limits(_selected_frames(path, wanted), path)]
    return _stack([frames[wanted.index(index)] for index in indices])


def stream_video_frames(path: str | Path, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """Decode selected frames as `read_video_frames` does, holding one of them in memory.

    Args:
        path: Video, GIF or image.
        indices: Indices of frames into `read_video_times`, ascending.

    Yields:
        sRGB, uint8, [H, W, 3 or 4].

    Raises:
        GridError: As in `read_video_frames`.
    """
    for _, frame in _selected_frames(Path(path), indices):
        yield frame


def _selected_frames(path: Path, indices: Sequence[int]) -> Iterator[tuple[int | None, np.ndarray]]:
    """Yield frames by ascending index, with their presentation times or numbers."""
    count = 0
    for key, frame in _decoded_frames(path, indices):
        yield key, frame
        count += 1
    if count < len(indices):
        raise GridError(
            f"frame {indices[count]} cannot be decoded; the video is damaged or its codec is "
            "not supported, convert it to H.264 first",
            path,
        )


def _decoded_frames(path: Path, indices: Sequence[int]) -> Iterator[tuple[int | None, np.ndarray]]:
    if _is_image(path):
        yield from animation_frames(path, indices)
        return
    with _opened_video(path) as (container, stream):
        timeline = _read_timeline(container, stream)
    with _opened_video(path) as (container, stream):
        yield from _shown_frames(container, stream, timeline.only(indices))


def _is_image(path: Path) -> bool:
    if not path.is_file():
        raise GridError.missing(path)
    try:
        return is_image_file(path)
    except OSError as error:
        raise GridError(f"cannot be read ({_reason(error)})", path) from error


@contextmanager
def _opened_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video, check its header, and yield the container and the stream that is the film."""
    try:
        _check_gif_end(path)
        with av.open(str(path.resolve()), options=_LOCAL) as container:
            if container.format.name == _TEXT_FORMAT:
                raise GridError("cannot be read as a video (it is a text file)", path)
            stream = _film(container, path)
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


def _film(container: InputContainer, path: Path) -> VideoStream:
    """Return the video stream that players show: the default one, else the largest.

    Raises:
        GridError: There is none; covers and thumbnails do not count.
    """
    streams = container.streams.video
    if not streams:
        raise GridError("expected a video, found no video stream in the file", path)
    films = [stream for stream in streams if not stream.disposition & _NO_FILM]
    if not films:
        raise GridError("expected a video, found only a cover picture in the file", path)

    def rank(stream: VideoStream) -> tuple[bool, int]:
        context = stream.codec_context
        is_default = bool(stream.disposition & Disposition.default)
        return is_default, context.width * context.height if context else 0

    return max(films, key=rank)


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


def _read_timeline(container: InputContainer, stream: VideoStream) -> Timeline:
    """Read the timeline from the packets if they tell it, else from the decoded frames."""
    if any(name in container.format.name for name in _INDEXED_FORMATS):
        found = _timeline(
            sorted(
                (packet.pts for packet in container.demux(stream) if _is_shown(packet)),
                key=lambda pts: -math.inf if pts is None else pts,
            )
        )
        if found.are_times:
            return found
        container.seek(0)
    return _timeline([frame.pts for frame in _decoded(container, stream)])


def _is_shown(packet: Packet) -> bool:
    return packet.size > 0 and not packet.is_discard  # not before the start of an edit list


def _timeline(stamps: Sequence[int | None]) -> Timeline:
    """Return the timeline of frames in the order in which they are shown."""
    known = tuple(stamp for stamp in stamps if stamp is not None)
    if len(known) == len(stamps) and all(a < b for a, b in pairwise(known)):
        return Timeline(known, True)
    return Timeline(tuple(range(len(stamps))), False)


def _seconds(timeline: Timeline, stream: VideoStream, path: Path) -> np.ndarray:
    """Return the times of frames in seconds since the first one, [T]."""
    if timeline.are_times and timeline.keys and stream.time_base is not None:
        ticks = np.array(timeline.keys, dtype=np.float64)
        return float(stream.time_base) * (ticks - ticks[0])
    return np.arange(len(timeline.keys)) / _frame_rate(stream, path)


def _frame_rate(stream: VideoStream, path: Path) -> float:
    fps = float(stream.guessed_rate or math.nan)
    if not (math.isfinite(fps) and fps > 0):
        raise GridError("the video has no valid frame rate; convert it to H.264 first", path)
    return fps


def _shown_frames(
    container: InputContainer, stream: VideoStream, only: Timeline | None = None
) -> Iterator[tuple[int | None, np.ndarray]]:
    """Yield the frames, or only those of a timeline, with their presentation times.

    Raises:
        ValueError: A frame is damaged, or differs in size from the first.
    """
    display = None
    for number, frame in enumerate(_progressive(_decoded(container, stream), stream)):
        display = display or display_of(stream, frame)
        key = frame.pts if only is None or only.are_times else number
        if only is None or key in only.keys:
            if frame.is_corrupt:
                raise ValueError(f"frame {number} of the video is damaged")
            yield frame.pts, display.show(frame)
        if only is not None and only.keys and key == only.keys[-1]:
            return


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield the frames in the order in which they are shown."""
    decoder = _ALPHA_DECODERS.get(stream.codec_context.name)
    if decoder is None or stream.metadata.get("alpha_mode") != "1":
        stream.thread_type = "AUTO"
        yield from container.decode(stream)
        return
    context = av.CodecContext.create(decoder, "r")
    assert isinstance(context, VideoCodecContext)
    for packet in container.demux(stream):
        yield from context.decode(packet if packet.size else None)


def _progressive(frames: Iterator[VideoFrame], stream: VideoStream) -> Iterator[VideoFrame]:
    """Deinterlace the frames that are flagged as interlaced; others stay as they are."""
    graph = None
    for frame in frames:
        if graph is None and frame.interlaced_frame:
            graph = _deinterlacer(frame, stream)
        if graph is None:
            yield frame
        else:
            graph.vpush(frame)
            yield from _pulled(graph, stream)
    if graph is not None:
        graph.vpush(None)
        yield from _pulled(graph, stream)


def _deinterlacer(frame: VideoFrame, stream: VideoStream) -> Graph:
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=stream.time_base,
        ),
        graph.add("bwdif", _DEINTERLACE),
        graph.add("buffersink"),
    ).configure()
    return graph


def _pulled(graph: Graph, stream: VideoStream) -> Iterator[VideoFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        if frame.pts is not None and frame.time_base and stream.time_base:
            frame.pts = round(frame.pts * frame.time_base / stream.time_base)
        yield frame


def _within_limits(
    frames: Iterator[tuple[int | None, np.ndarray]], path: Path
) -> Iterator[tuple[int | None, np.ndarray]]:
    """Pass frames on, checking that they have one size and fit into memory."""
    used, shape = 0, None
    for number, (key, frame) in enumerate(frames):
        shape = shape or frame.shape
        if frame.shape != shape:
            raise GridError(f"frame {number} of the video differs in size from the first", path)
        used += frame.nbytes
        if used > MAX_VIDEO_BYTES:
            raise GridError(
                f"expected at most {MAX_VIDEO_BYTES >> 30} GiB of decoded frames; shorten or "
                "resize the video",
                path,
            )
        yield key, frame


def _stack(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Stack frames; alpha is dropped if it is opaque in all of them."""
    has_alpha = frames[0].shape[-1] == 4 and any((frame[..., 3] < 255).any() for frame in frames)
    return np.stack([frame if has_alpha else frame[..., :3] for frame in frames])
