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
from generation.clip.matting import alpha_on_white, cut_from_white, mask_on_white
from generation.clip.reading import FrameSelection, read_clip
from recon.errors import InputError
from recon.grid.grid import composite

MIN_SIZE, MAX_SIZE = 16, 4096
MIN_RATIO = 0.1
BUSY_BORDER = 0.6  # fraction of non-white border pixels above which the background is not white
SIDES = ("top", "left", "bottom", "right")


class SquareClip(NamedTuple):
    """Square frames of an object, as the models take them.

    Attributes:
        images: RGBA, sRGB with straight alpha, uint8, [T, size, size, 4].
        fps: frames per second at which they play at the source's speed.
        alpha_known: whether alpha comes from the source; else it was estimated from the white
            background.
        source_frames: frame numbers in the source, T of them.
        crop: squares of the source that were cut out.
        warnings: sentences about what may spoil the result.
    """

    images: np.ndarray
    fps: float
    alpha_known: bool
    source_frames: tuple[int, ...]
    crop: Crop
    warnings: tuple[str, ...]

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
        frames: sRGB, with straight alpha if the source has any, uint8, [T, H, W, 3 or 4].
        fps: frames per second at which they play at the source's speed.
        source_frames: frame numbers in the source, T of them.
        recenter: whether the square follows the object instead of staying in one place.
        warnings: sentences about what may spoil the result.
    """

    frames: np.ndarray
    fps: float
    source_frames: tuple[int, ...]
    recenter: bool
    warnings: tuple[str, ...]

    @property
    def alpha_known(self) -> bool:
        """Whether the frames have alpha; else it is estimated from the white background."""
        return self.frames.shape[-1] == 4

    @property
    def mask(self) -> np.ndarray:
        """Mask of the object, bool, [T, H, W]."""
        return np.stack([_mask(frame) for frame in self.frames])

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
        boxes = np.stack([bounding_box(_mask(frame)) for frame in self.frames])
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
        cut = cut_square if self.alpha_known else _square_from_white
        squares = [cut(frame, crop, t, size) for t, frame in enumerate(self.frames)]
        return SquareClip(
            np.stack(squares), self.fps, self.alpha_known, self.source_frames, crop, self.warnings
        )


def load_clip(
    path: str | Path,
    *,
    frames: int | None = None,
    start: float = 0.0,
    stop: float | None = None,
    fps: float | None = None,
    recenter: bool = False,
    remove_background: bool = False,
) -> Clip:
    """Read a clip of one object with a transparent or white background.

    Args:
        path: video, animated GIF or folder of images.
        frames: number of frames T, at least 1, for diffusion models at least 5; None for 21, or all
            of a shorter clip.
        start: start in seconds.
        stop: end in seconds; None for the end of the clip.
        fps: frames per second to take from `start` on; None to spread the frames evenly over
            [start, stop].
        recenter: whether to follow an object that moves across the image.
        remove_background: whether to segment the object with U²-Net if the clip has no alpha; needs
            the package rembg.

    Raises:
        InputError: the clip cannot be read or is shorter than required, or no object is found; or a
            number is out of range.
        WeightsError: rembg or its network is missing.

    Example:
        >>> clip = load_clip("robot.mp4")
        >>> clip.frames.shape
        (21, 512, 512, 3)
    """
    path = Path(path)
    source = read_clip(path, FrameSelection(frames, start, stop, fps))
    images = source.images
    if remove_background and images.shape[-1] == 3:
        images = matting.remove_background(images)
    outlines = [_outline(_mask(image)) for image in images]
    _check_outlines(outlines, images.shape[-1] == 4, path)
    return Clip(images, source.fps, source.source_frames, recenter, _warnings(outlines))


class Outline(NamedTuple):
    """Whether a frame's mask is empty, and where it touches the border of the image.

    Attributes:
        empty: whether the mask has no pixel.
        border: fraction of the image's border pixels that are in the mask.
        sides: whether the mask touches the top, left, bottom and right of the image.
    """

    empty: bool
    border: float
    sides: tuple[bool, ...]


def _mask(image: np.ndarray) -> np.ndarray:
    return image[..., 3] > 0 if image.shape[-1] == 4 else mask_on_white(image)


def _outline(mask: np.ndarray) -> Outline:
    sides = (mask[0], mask[:, 0], mask[-1], mask[:, -1])
    border = float(np.concatenate(sides).mean())
    return Outline(not mask.any(), border, tuple(bool(side.any()) for side in sides))


def _square_from_white(image: np.ndarray, crop: Crop, frame: int, size: int) -> np.ndarray:
    """Cut a square as `cut_square` does; estimate alpha before enlarging, while edges are sharp."""
    square = composite(cut_square(image, crop, frame, size))
    if crop.side >= size:
        return cut_from_white(square, alpha_on_white(square))
    alpha = Image.fromarray(alpha_on_white(composite(cut_square(image, crop, frame, crop.side))))
    return cut_from_white(square, np.asarray(alpha.resize((size, size), Image.Resampling.BICUBIC)))


def _check_outlines(outlines: Sequence[Outline], alpha_known: bool, path: Path) -> None:
    """Raise InputError where the object cannot be separated from the background."""
    T = len(outlines)
    if all(outline.empty for outline in outlines):
        found = "alpha is empty" if alpha_known else "there is nothing but white"
        raise InputError(f"expected an object, but {found} in all {T} frames", path)
    busy = sum(outline.border > BUSY_BORDER for outline in outlines)
    if not alpha_known and busy > T / 2:
        raise InputError(
            f"expected a white or transparent background, but it is not white in {busy} of {T} "
            "frames; pass --remove-background, or edit the video",
            path,
        )


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
