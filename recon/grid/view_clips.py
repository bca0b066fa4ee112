"""Grids from one clip per view, as other multi-view models and cameras write them.

A clip is a video, or a folder of images. SV4D and SV4D 2.0 write one MP4 per view and no cameras;
their cameras have a horizontal field of view of 33.8°, a distance of 2 and 576² pixels.
Letters: V views, n frames of a clip, T selected frames, H × W pixels.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recon.errors import GridError, InputError
from recon.grid.cut_out import warn_of_background
from recon.grid.grid import Grid, grid_from_views
from recon.grid.mosaic import Mosaic
from recon.grid.orientation import rotated, rotation_of_grid
from recon.grid.pixels import ImageSource, common_size, read_pixels
from recon.grid.view_cameras import ViewCamera, ViewCameras
from recon.media import (
    by_numbers,
    frame_files,
    grid_json,
    has_frames,
    playback_rate,
    read_frame_files,
    read_video_frames,
    read_video_times,
    shown_size,
)
from recon.selection import distinct, nearest

FOLDER_FPS = 10.0
MASK_NOISE = 16

_log = logging.getLogger(__name__)


class ViewClip(NamedTuple):
    """A clip of a view whose frames are not decoded yet.

    Attributes:
        path: video, or folder of images.
        size: height and width in pixels.
        seconds: when each frame is shown, ascending from 0, [n].
        read: reads frames by index, uint8, [count, H, W, 3 or 4].
        cell: number of the view in a mosaic; None if the clip shows only one.
    """

    path: Path
    size: tuple[int, int]
    seconds: np.ndarray
    read: Callable[[Sequence[int]], np.ndarray]
    cell: int | None = None

    @property
    def name(self) -> str:
        """Name without folders and suffix."""
        name = self.path.name if self.path.is_dir() else self.path.stem
        return name if self.cell is None else f"{name}_{self.cell:02d}"


class ClipImages(NamedTuple):
    """The frames of V clips.

    Attributes:
        images: RGBA, uint8, [V, T, H, W, 4].
        times: times of the frames in [0, 1], [T].
        fps: frames per second.
        alpha_known: whether all clips had alpha or masks; if not, it was estimated as in
            `read_grid`.
    """

    images: np.ndarray
    times: np.ndarray
    fps: float
    alpha_known: bool


def open_clips(
    paths: Sequence[str | Path], source_fps: float | None = None, mosaic: Mosaic | None = None
) -> list[ViewClip]:
    """Open the clip of each view.

    Clips in alphabetic order whose names contain numbers are put in the order of the numbers,
    because shells list `view_10` before `view_2`.

    Args:
        paths: a video, or folder of images, per view.
        source_fps: frames per second of the clips; None: their own times, or 10 for a folder.
        mosaic: how each clip shows several views, which follow each other; None: it shows one.

    Raises:
        GridError: there are none, or one cannot be read or divided into views.
        InputError: the rate is not above 0.
    """
    if source_fps is not None and not 0 < source_fps < math.inf:
        raise InputError(f"expected a source frame rate above 0, found {source_fps:g}")
    if not paths:
        raise GridError("expected at least one video or folder of images, found none")
    given = [Path(path) for path in paths]
    by_number = sorted(given, key=by_numbers)
    in_one_folder = len({path.parent for path in given}) == 1
    numbered = all(any(map(str.isdecimal, path.stem)) for path in given)
    if in_one_folder and numbered and given == sorted(given) and given != by_number:
        _log.warning(
            "the views are taken in the order of their numbers: %s … %s",
            by_number[0].name, by_number[-1].name,
        )  # fmt: skip
        given = by_number
    opened = [_open(path, source_fps) for path in given]
    return opened if mosaic is None else [cell for clip in opened for cell in _split(clip, mosaic)]


def _open(path: Path, source_fps: float | None = None) -> ViewClip:
    if path.is_dir():
        _check_one_view(path)
        files = frame_files(path)
        read = lambda indices: read_frame_files([files[index] for index in indices])  # noqa: E731
        seconds = np.arange(len(files)) / (source_fps or FOLDER_FPS)
        return ViewClip(path, shown_size(files[0]), seconds, read)
    seconds = read_video_times(path)
    if len(seconds) == 0:
        raise GridError("the video has no frames", path)
    if source_fps is not None:
        seconds = np.arange(len(seconds)) / source_fps
    height, width = read_video_frames(path, [0]).shape[1:3]
    return ViewClip(path, (height, width), seconds, partial(read_video_frames, path))


def _split(clip: ViewClip, mosaic: Mosaic) -> list[ViewClip]:
    """Divide a clip that shows several views into one clip for each."""
    try:
        cells = mosaic.cells(*clip.size)
    except InputError as error:
        raise GridError(str(error), clip.path) from error
    read = lru_cache(maxsize=1)(clip.read)  # all views of a mosaic are decoded together
    lock = threading.Lock()  # the views are read by several threads, which would all decode it

    def read_cell(indices: Sequence[int], rows: slice, columns: slice) -> np.ndarray:
        with lock:
            images = read(tuple(indices))
        return images[:, rows, columns]

    size = (clip.size[0] // mosaic.rows, clip.size[1] // mosaic.columns)
    return [
        clip._replace(size=size, read=partial(read_cell, rows=rows, columns=columns), cell=number)
        for number, (rows, columns) in enumerate(cells)
    ]


def _check_one_view(folder: Path) -> None:
    """Check that a folder is not that of all views.

    Raises:
        GridError: it has folders or other files, but no images of a clip.
    """
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if inside and grid_json(folder) is None and not has_frames(folder):
        raise GridError(
            f"expected the images of one view, found {len(inside)} folders or other files; if "
            f"these are the views, give them all: {folder}/*",
            folder,
        )


def read_clips(paths: Sequence[str | Path], mosaic: Mosaic | None = None) -> ClipImages:
    """Read all frames of one clip per view, all of the same length and size.

    Args:
        paths: see `open_clips`.
        mosaic: see `open_clips`.

    Raises:
        GridError: there are no clips, one cannot be read, or their lengths or sizes differ.
    """
    clips = open_clips(paths, mosaic=mosaic)
    indices = _selected(clips, None, shortest=False)
    for clip in clips:
        if clip.size != clips[0].size:
            raise GridError(
                f"{_pixels(clip.size)} pixels, but {clips[0].path.name} has "
                f"{_pixels(clips[0].size)}; all must have the same size",
                clip.path,
            )
    sources = [ImageSource(clip.size, partial(clip.read, indices), len(indices)) for clip in clips]
    return _read(clips, indices, sources, clips[0].size)


def grid_from_clips(
    paths: Sequence[str | Path],
    cameras: ViewCameras,
    *,
    masks: str | Path | None = None,
    frames: int | None = None,
    shortest: bool = False,
    fps: float | None = None,
    source_fps: float | None = None,
    mosaic: Mosaic | None = None,
    up: str = "auto",
) -> Grid:
    """Make a full grid from one clip per view.

    Args:
        paths: one video, or folder of images, per view, V of them; empty: those that the cameras
            name.
        cameras: cameras of the views.
        masks: folder with a clip of masks for each view, of the same name; bright where the object
            is. None: see `read_grid`.
        frames: number of frames T, those nearest to even times, none twice; None: all.
        shortest: whether clips that are longer than the shortest one are cut at the end.
        fps: frames per second at which the grid plays; None: those of the selected frames.
        source_fps: see `open_clips`.
        mosaic: see `open_clips`; masks are mosaics of the same kind.
        up: axis that points up in the world of the cameras, see `read_grid`.

    Raises:
        GridError: a clip cannot be read, or clips, masks and cameras do not match.
        InputError: `up` is unknown.
    """
    clips = open_clips(paths or cameras.clips(), source_fps, mosaic)
    indices = _selected(clips, frames, shortest)
    chosen = cameras.of_views([clip.name for clip in clips])
    sources = [
        _source(clip, indices, view, None if masks is None else _mask_of(clip, Path(masks), mosaic))
        for clip, view in zip(clips, chosen, strict=True)
    ]
    size = common_size([clip.size for clip in clips], len(clips) * len(indices))
    own = [source.camera for source in sources if source.camera is not None]
    rotation = rotation_of_grid(own, cameras.up if up == "auto" and cameras.up else up)
    found = _read(clips, indices, sources, size)
    for clip, images in zip(clips, found.images, strict=True):
        if not images[..., 3].any():
            _log.warning("%s: its masks, or its alpha, show no object in any frame", clip.path)
    warn_of_background(found.images.reshape(-1, *found.images.shape[2:]))
    return grid_from_views(
        [rotated(camera.padded(*size), rotation) for camera in own],
        found.images,
        fps or found.fps,
        found.alpha_known,
        times=found.times,
        R_world_source=rotation,
    )


def _selected(clips: Sequence[ViewClip], frames: int | None, shortest: bool) -> list[int]:
    """Return the numbers of the frames to take from each clip, T of them."""
    counts = [len(clip.seconds) for clip in clips]
    if len(set(counts)) > 1 and not shortest:
        odd = clips[next(k for k, count in enumerate(counts) if count != counts[0])]
        raise GridError(
            f"{len(odd.seconds)} frames, but {clips[0].path.name} has {counts[0]}; cut all clips "
            "to the shortest one with --shortest",
            odd.path,
        )
    n = min(counts)
    seconds = clips[0].seconds[:n]
    for clip in clips:
        gap = np.abs(clip.seconds[:n] - seconds).max()
        if gap > 0.5 * (seconds[-1] / max(n - 1, 1)) and gap > 0:
            _log.warning(
                "%s: its frames are shown up to %.2g seconds before or after those of %s; frames "
                "of the same number are taken as simultaneous",
                clip.path, gap, clips[0].path.name,
            )  # fmt: skip
    if frames is None:
        return list(range(n))
    if not 1 <= frames <= n:
        raise GridError(f"expected 1 to {n} frames, as the clips have, found {frames}")
    targets = np.linspace(0, seconds[-1], frames)
    return distinct(nearest(seconds, targets), n).tolist()


def _source(
    clip: ViewClip, indices: Sequence[int], view: ViewCamera, mask: ViewClip | None
) -> ImageSource:
    try:
        camera = view.camera(*clip.size)
    except ValueError as error:
        raise GridError(str(error), clip.path) from error
    if mask is not None and len(mask.seconds) <= max(indices):
        raise GridError(
            f"expected a mask for each frame of {clip.path.name}, found {len(mask.seconds)}",
            mask.path,
        )
    return ImageSource(
        size=clip.size,
        read=partial(clip.read, indices),
        count=len(indices),
        read_masks=None if mask is None else partial(_read_masks, mask, indices),
        camera=camera,
        distortion=view.intrinsics.distortion,
    )


def _mask_of(clip: ViewClip, folder: Path, mosaic: Mosaic | None) -> ViewClip:
    """Open the masks of a clip: the file or folder with its name in a folder."""
    if not folder.is_dir():
        raise GridError("expected a folder with masks for each view, found none", folder)
    name = clip._replace(cell=None).name
    found = [path for path in sorted(folder.iterdir()) if _has_name(path, name)]
    if len(found) != 1:
        raise GridError(
            f"expected one video or folder of masks with the name {name!r}, found {len(found)}",
            folder,
        )
    mask = _open(found[0])
    return mask if mosaic is None else _split(mask, mosaic)[clip.cell or 0]


def _has_name(path: Path, name: str) -> bool:
    return path.name == name or (path.is_file() and path.stem == name)


def _read_masks(mask: ViewClip, indices: Sequence[int]) -> np.ndarray:
    found = mask.read(indices)
    if not mask.path.is_dir():  # compression makes black and white noisy
        found = np.where(found <= MASK_NOISE, 0, np.where(found >= 255 - MASK_NOISE, 255, found))
        found = found.astype(np.uint8)
    if found.shape[-1] == 4:
        return found
    return np.concatenate([found, np.full_like(found[..., :1], 255)], axis=-1)


def _read(
    clips: Sequence[ViewClip],
    indices: Sequence[int],
    sources: Sequence[ImageSource],
    size: tuple[int, int],
) -> ClipImages:
    images, known = read_pixels(sources, size)
    seconds = clips[0].seconds[list(indices)]
    span = max(float(seconds[-1] - seconds[0]), 1e-9)
    return ClipImages(
        images.reshape(len(clips), len(indices), *images.shape[1:]),
        (seconds - seconds[0]) / span,
        playback_rate(seconds),
        known,
    )


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"
