"""Reading selected frames of a video, an animated GIF or a folder of images.

    file ──index──▶ times ──selection──▶ T indices ──streaming──▶ T frames

Only the selected frames are kept, so that a long video needs no more memory than a short one.
Letters: n frames of the source, T selected ones, H × W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recon.errors import InputError
from recon.grid.transforms import is_json
from recon.media import (
    frame_files,
    has_frames,
    playback_rate,
    read_frame_files,
    read_video_frames,
    read_video_times,
)
from recon.selection import distinct, nearest

DEFAULT_FRAMES = 21
MAX_FPS = 1000.0
MIN_SIDE = 16
FOLDER_FPS = 10.0


@dataclass(frozen=True)
class FrameSelection:
    """Which frames of a clip to take.

    Attributes:
        frames: number of frames T; None for 21, or all frames of a shorter clip.
        start: start in seconds.
        stop: end in seconds; None for the end of the clip.
        fps: frames per second to take from `start` on; None to spread the frames evenly over
            [start, stop], both ends included.
        source_fps: frames per second of the source; None: its own times, or 10 frames per second
            for a folder of images.

    Raises:
        InputError: a number is out of range.
    """

    frames: int | None = None
    start: float = 0.0
    stop: float | None = None
    fps: float | None = None
    source_fps: float | None = None

    def __post_init__(self):
        if self.frames is not None and self.frames < 1:
            raise InputError(f"expected at least 1 frame, found {self.frames}", argument="frames")
        if not (math.isfinite(self.start) and self.start >= 0):
            raise InputError(f"expected 0 seconds or more, found {self.start}", argument="start")
        if self.stop is not None and not (math.isfinite(self.stop) and self.stop > self.start):
            raise InputError(
                f"expected a time after the start ({self.start:g} seconds), found {self.stop:g}",
                argument="stop",
            )
        for name, fps in (("fps", self.fps), ("source_fps", self.source_fps)):
            if fps is not None and not 0 < fps <= MAX_FPS:
                raise InputError(
                    f"expected a rate above 0 and at most {MAX_FPS:g}, found {fps:g}", argument=name
                )


class ClipFrames(NamedTuple):
    """Selected frames of a clip.

    Attributes:
        images: sRGB, with straight alpha unless opaque everywhere, uint8, [T, H, W, 3 or 4].
        fps: frames per second at which T frames play in the source's time.
        source_frames: frame numbers in the source, T of them.
        times: times of the frames, from 0 for the first to 1 for the last, T of them.
    """

    images: np.ndarray
    fps: float
    source_frames: tuple[int, ...]
    times: tuple[float, ...]


class SelectedFrames(NamedTuple):
    """Numbers of the selected frames, T of them, and when they are shown, see `ClipFrames`."""

    indices: tuple[int, ...]
    fps: float
    times: tuple[float, ...]


def is_clip(path: Path) -> bool:
    """Return whether an input is a clip, and not a grid folder or its JSON.

    A folder is one if it has images and no JSON of a grid; a file, if it is not JSON. Whether it
    can be decoded is not checked.
    """
    if path.is_dir():
        return has_frames(path)
    return path.is_file() and not is_json(path)


def read_clip(path: str | Path, selection: FrameSelection) -> ClipFrames:
    """Read selected frames of a video, an animated GIF or a folder of images.

    The images of a folder are ordered by the numbers in their names; if some names end in a number,
    those that do not are ignored.

    Raises:
        InputError: the clip is missing, damaged, too large or too small, or has too few frames.
    """
    path = Path(path)
    try:
        seconds, read = _folder(path) if path.is_dir() else _video(path)
        if selection.source_fps is not None:
            seconds = np.arange(len(seconds)) / selection.source_fps
    except PermissionError as error:
        raise InputError(f"cannot be read ({error.strerror})", path) from error
    chosen = select_frames(seconds, selection, path)
    images = read(chosen.indices)
    height, width = images.shape[1:3]
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"expected at least {MIN_SIDE} pixels on each side, found {width}×{height}", path
        )
    return ClipFrames(images, chosen.fps, chosen.indices, chosen.times)


def select_frames(
    seconds: np.ndarray, selection: FrameSelection, path: Path | None = None
) -> SelectedFrames:
    """Select the frames nearest to the requested times, none twice.

    Where the source has fewer frames, as if a camera had dropped some, frames come unevenly; they
    keep their own times.

    Args:
        seconds: presentation times of the source's frames, ascending from 0, [n].
        selection: the requested frames.
        path: path of the source, for messages.

    Raises:
        InputError: there are too few frames.
    """
    inside = _inside(seconds, selection, path)
    if selection.fps is None:
        return _evenly(seconds, inside, selection, path)
    return _at_rate(seconds, inside, selection, selection.fps, path)


def _inside(seconds: np.ndarray, selection: FrameSelection, path: Path | None) -> np.ndarray:
    """Return the numbers of the frames within [start, stop], at least one."""
    if len(seconds) == 0:
        raise InputError("expected a clip of at least 1 frame, found none", path)
    if selection.start > seconds[-1]:
        raise InputError(
            f"expected a start before the last frame ({seconds[-1]:g} seconds), found "
            f"{selection.start:g}",
            path,
        )
    slack = 1e-3  # containers keep times in milliseconds
    stop = math.inf if selection.stop is None else selection.stop
    inside = np.flatnonzero((seconds >= selection.start - slack) & (seconds <= stop + slack))
    if len(inside) == 0:
        end = seconds[-1] if selection.stop is None else selection.stop
        raise InputError(
            f"expected a frame between {selection.start:g} and {end:g} seconds, found none", path
        )
    return inside


def _evenly(
    seconds: np.ndarray, inside: np.ndarray, selection: FrameSelection, path: Path | None
) -> SelectedFrames:
    T = selection.frames or min(DEFAULT_FRAMES, len(inside))
    if len(inside) < T:
        raise InputError(
            f"expected at least {_count(T)}, found {len(inside)}; ask for {len(inside)} or fewer",
            path,
        )
    first, last = seconds[inside[0]], seconds[inside[-1]]
    chosen = inside[distinct(nearest(seconds[inside], np.linspace(first, last, T)), len(inside))]
    return _selected(chosen, seconds)


def _at_rate(
    seconds: np.ndarray,
    inside: np.ndarray,
    selection: FrameSelection,
    fps: float,
    path: Path | None,
) -> SelectedFrames:
    first, last = seconds[inside[0]], seconds[inside[-1]]
    available = math.floor((last - first) * fps + 0.5) + 1
    T = selection.frames or min(DEFAULT_FRAMES, available)
    if available < T:
        raise InputError(
            f"expected at least {_count(T)}, but {last - first:g} seconds have "
            f"{_count(available)} at {fps:g} per second; select a longer part or a higher rate",
            path,
        )
    chosen = nearest(seconds[inside], first + np.arange(T) / fps)
    own = (len(inside) - 1) / max(float(last - first), 1e-9)
    if len(np.unique(chosen)) < T and (fps > own or len(inside) < T):
        raise InputError(
            f"expected at most the clip's own {own:.4g} frames per second, found {fps:g}", path
        )
    return _selected(inside[distinct(chosen, len(inside))], seconds)


def _selected(indices: np.ndarray, seconds: np.ndarray) -> SelectedFrames:
    shown = seconds[indices] - seconds[indices[0]]
    times = shown / shown[-1] if len(shown) > 1 else shown
    return SelectedFrames(tuple(indices.tolist()), playback_rate(shown), tuple(times.tolist()))


_Read = Callable[[Sequence[int]], np.ndarray]


def _video(path: Path) -> tuple[np.ndarray, _Read]:
    if not path.exists():
        raise InputError.missing(path)
    return read_video_times(path), partial(read_video_frames, path)


def _folder(path: Path) -> tuple[np.ndarray, _Read]:
    files = frame_files(path)
    seconds = np.arange(len(files)) / FOLDER_FPS
    return seconds, lambda indices: read_frame_files([files[index] for index in indices])


def _count(frames: int) -> str:
    return "1 frame" if frames == 1 else f"{frames} frames"
