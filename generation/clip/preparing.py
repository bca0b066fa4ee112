"""Clips of one object: load the frames and cut them to the squares that the models take.

    video, GIF, folder ──load_clip──▶ Clip: T frames, mask ──square──▶ SquareClip: RGBA of size²
                         (reading)    (matting)               (cropping)

Letters: T frames, H × W pixels of the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from generation.clip import matting
from generation.clip.cropping import (
    Crop,
    bounding_box,
    centered_crop,
    cut_square,
    fixed_crop,
    following_crop,
)
from generation.clip.matting import cut_from_uniform, cut_from_white, object_mask, without_veil
from generation.clip.reading import FrameSelection, read_clip
from recon.errors import InputError
from recon.grid import Camera
from recon.grid.grid import composite, frame_times
from recon.grid.source_camera import SourceCamera
from recon.grid.video_thumbnails import thumbnails_of

MIN_SIZE, MAX_SIZE = 16, 4096
MIN_RATIO = 0.1
SIDES = ("top", "left", "bottom", "right")


class SquareClip(NamedTuple):
    """Square frames of an object, as the models take them.

    Attributes:
        images: RGBA, sRGB with straight alpha, uint8, [T, size, size, 4].
        fps: frames per second at which they play at the source's speed.
        alpha_known: whether alpha comes from the source or a segmentation; else it was estimated
            from the background's uniform color.
        source_frames: frame numbers in the source, T of them.
        crop: squares of the source that were cut out.
        warnings: sentences about what may spoil the result.
        times: times of the frames, from 0 for the first to 1 for the last, T of them; empty:
            evenly spaced.
        source_size: height and width of the source in pixels; None: not known.
        thumbnails: those of the source's frames, see `recon.grid.source_camera.SourceCamera`.
    """

    images: np.ndarray
    fps: float
    alpha_known: bool
    source_frames: tuple[int, ...]
    crop: Crop
    warnings: tuple[str, ...]
    times: tuple[float, ...] = ()
    source_size: tuple[int, int] | None = None
    thumbnails: np.ndarray | None = None

    @property
    def frame_times(self) -> np.ndarray:
        """Times of the frames in [0, 1], float64, [T]."""
        return np.array(self.times) if self.times else frame_times(len(self.images))

    def source_camera(self, camera: Camera) -> SourceCamera | None:
        """Return the camera of the source, of which the frames are a part.

        Args:
            camera: the camera of the square frames.

        Returns:
            The source camera; None if the size of the source is not known.
        """
        if self.source_size is None:
            return None
        height, width = self.source_size
        cameras = [
            self.crop.source_camera(frame, camera, height, width)
            for frame in range(len(self.images))
        ]
        points = np.array([(each.cx, each.cy) for each in cameras])
        times, frames = self.frame_times, self.source_frames
        return SourceCamera(cameras[0], times, points, frames, self.thumbnails)

    def square(self, size: int, ratio: float, around_object: bool = False) -> SquareClip:
        """Return the clip itself; it is square already. Arguments as in `Clip.square`.

        Raises:
            InputError: the frames have another size.
        """
        found = self.images.shape[1]
        if found != size:
            raise InputError(
                f"expected square frames of {size} pixels, found {found}; pass the size {found}, "
                "or cut the clip from its source with `load_clip`"
            )
        return self


@dataclass(frozen=True)
class Clip:
    """Frames of one object at the resolution of the source.

    Attributes:
        frames: RGBA, sRGB with straight alpha, uint8, [T, H, W, 4].
        fps: frames per second at which they play at the source's speed.
        alpha_known: see `SquareClip`.
        source_frames: frame numbers in the source, T of them.
        recenter: whether the square follows the object instead of staying in one place.
        warnings: sentences about what may spoil the result.
        times: see `SquareClip`.
        thumbnails: see `SquareClip`.
    """

    frames: np.ndarray
    fps: float
    alpha_known: bool
    source_frames: tuple[int, ...]
    recenter: bool
    warnings: tuple[str, ...]
    times: tuple[float, ...] = ()
    thumbnails: np.ndarray | None = None

    @property
    def mask(self) -> np.ndarray:
        """Mask of the object, bool, [T, H, W]."""
        return np.stack([object_mask(frame) for frame in self.frames])

    def crop(self, ratio: float, around_object: bool = False) -> Crop:
        """Choose the squares to cut.

        Args:
            ratio: longest side of the object over the side of the square.
            around_object: whether the square is in the middle of the object, over all frames,
                instead of in the middle of the image; without effect if it follows the object.

        Raises:
            InputError: the ratio is out of range, or the square would be too large.
        """
        if not MIN_RATIO <= ratio <= 1:
            raise InputError(f"expected a ratio from {MIN_RATIO} to 1, found {ratio:g}")
        boxes = np.stack([bounding_box(object_mask(frame)) for frame in self.frames])
        if self.recenter:
            return following_crop(boxes, ratio)
        if around_object:
            return fixed_crop(boxes, ratio)
        return centered_crop(boxes, self.frames.shape[1], self.frames.shape[2], ratio)

    def square(self, size: int, ratio: float, around_object: bool = False) -> SquareClip:
        """Cut the square frames.

        Args:
            size: side of the square frames in pixels.
            ratio: longest side of the object over the side of the square.
            around_object: see `crop`.

        Raises:
            InputError: a number is out of range, or the square would be too large.
        """
        if not MIN_SIZE <= size <= MAX_SIZE:
            raise InputError(f"expected a size from {MIN_SIZE} to {MAX_SIZE}, found {size}")
        crop = self.crop(ratio, around_object)
        cut = cut_square if self.alpha_known else _square_over_white
        height, width = self.frames.shape[1:3]
        squares = [cut(frame, crop, t, size) for t, frame in enumerate(self.frames)]
        return SquareClip(
            np.stack(squares),
            self.fps,
            self.alpha_known,
            self.source_frames,
            crop,
            self.warnings,
            self.times,
            (height, width),
            self.thumbnails,
        )


def load_clip(
    path: str | Path,
    *,
    frames: int | None = None,
    start: float = 0.0,
    stop: float | None = None,
    fps: float | None = None,
    source_fps: float | None = None,
    recenter: bool = False,
    remove_background: bool = False,
) -> Clip:
    """Read a clip of one object with a transparent background or one of uniform color.

    Args:
        path: video, animated GIF or folder of images.
        frames: number of frames T, at least 1, for diffusion models at least 5; None for 21, or all
            of a shorter clip.
        start: start in seconds.
        stop: end in seconds; None for the end of the clip.
        fps: frames per second to take from `start` on; None to spread the frames evenly over
            [start, stop]. Frames keep the times at which they are shown.
        source_fps: frames per second of the source, such as of a folder of images; None: its own
            times, or 10 frames per second for a folder.
        recenter: whether to follow an object that moves across the image.
        remove_background: whether to segment the object with U²-Net if the clip has no alpha; needs
            the package rembg.

    Raises:
        InputError: the clip cannot be read or is shorter than required, or no object is found; or a
            number is out of range.
        BackendError: rembg is missing.
        WeightsError: its network is missing.

    Example:
        >>> clip = load_clip("robot.mp4")
        >>> clip.frames.shape
        (21, 512, 512, 4)
    """
    path = Path(path)
    source = read_clip(path, FrameSelection(frames, start, stop, fps, source_fps))
    alpha_known = source.images.shape[-1] == 4 or remove_background
    if not alpha_known:
        images = _cut_from_uniform(source.images, path)
    else:
        has_alpha = source.images.shape[-1] == 4
        cut_out = source.images if has_alpha else matting.remove_background(source.images)
        images = np.stack([without_veil(image) for image in cut_out])
    outlines = [_outline(object_mask(image)) for image in images]
    if all(outline.empty for outline in outlines):
        found = "alpha is empty" if alpha_known else "there is nothing but background"
        where = f" in all {len(images)} frames" if len(images) > 1 else ""
        raise InputError(f"expected an object, but {found}{where}", path)
    warnings = _warnings(outlines)
    return Clip(
        images,
        source.fps,
        alpha_known,
        source.source_frames,
        recenter,
        warnings,
        source.times,
        thumbnails_of(source.images),
    )


def _cut_from_uniform(images: np.ndarray, path: Path) -> np.ndarray:
    found = cut_from_uniform(images)
    if found is None:
        raise InputError(
            "expected a background that is transparent or of one color, but the pixels along the "
            "border differ; pass --remove-background, or edit the video",
            path,
        )
    return found


class Outline(NamedTuple):
    """Whether a frame's mask is empty, and where it touches the border of the image.

    Attributes:
        empty: whether the mask has no pixel.
        sides: whether the mask touches the top, left, bottom and right of the image.
    """

    empty: bool
    sides: tuple[bool, ...]


def _outline(mask: np.ndarray) -> Outline:
    sides = (mask[0], mask[:, 0], mask[-1], mask[:, -1])
    return Outline(not mask.any(), tuple(bool(side.any()) for side in sides))


def _square_over_white(rgba: np.ndarray, crop: Crop, frame: int, size: int) -> np.ndarray:
    """Cut a square as `cut_square` does, but resize what is seen over white.

    SV4D's preprocessing does so with clips without alpha, and resizing changes edges a bit.
    """
    seen = composite(cut_square(composite(rgba), crop, frame, size))
    # not Lanczos, which leaves a halo of faint alpha around the object
    alpha = cut_square(rgba, crop, frame, size, Image.Resampling.BICUBIC)[..., 3]
    return cut_from_white(seen, alpha)


def _warnings(outlines: Sequence[Outline]) -> tuple[str, ...]:
    T, found = len(outlines), []
    empty = sum(outline.empty for outline in outlines)
    if empty:
        found.append(f"no object is visible in {empty} of {T} frames")
    touching = [outline.sides for outline in outlines if any(outline.sides)]
    if touching:
        names = [name for name, hit in zip(SIDES, np.any(touching, axis=0), strict=True) if hit]
        found.append(
            f"the object touches the border of the image ({', '.join(names)}) in {len(touching)} "
            f"of {T} frames and is cut off there"
        )
    return tuple(found)
