"""From any clip of one object to the square frames that the models take.

    video, GIF, folder ──▶ T frames ──▶ mask ──▶ one square ──▶ RGBA of size²
                     clip_reading    alpha, white    cropping
                                    or background

Letters: T frames, H × W pixels. What it does not know: models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from generation.clip.background import remove_background
from generation.clip.cropping import Crop, bounding_box, centred_crop, cut_square, following_crop
from generation.clip.reading import FrameChoice, read_clip
from generation.clip.white_background import cut_from_white, darker_than_white, estimated_alpha
from recon.errors import InputError
from recon.grid.grid import composite

MAX_SIZE = 4096
MIN_RATIO = 0.1
BUSY_BORDER = 0.6  # more of the border than this is not white: neither is the background
SIDES = ("top", "left", "bottom", "right")


@dataclass(frozen=True)
class ClipOptions(FrameChoice):
    """What a user chooses about the input.

    Attributes:
        frames: as all up to `fps`, see `FrameChoice`.
        size: side of the square frames in pixels.
        ratio: the object's share of the side; 0.917 for SV4D, 0.9 for SV4D 2.0.
        recenter: whether the square follows the object.
        remove_background: whether a clip without alpha is cut out by rembg.

    Raises:
        InputError: a number is out of its range.
    """

    size: int = 576
    ratio: float = 0.9
    recenter: bool = False
    remove_background: bool = False

    def __post_init__(self):
        super().__post_init__()
        if not 16 <= self.size <= MAX_SIZE:
            raise InputError(f"expected frames of 16 to {MAX_SIZE} pixels, found {self.size}")
        if not MIN_RATIO <= self.ratio <= 1:
            raise InputError(f"expected a ratio of {MIN_RATIO} to 1, found {self.ratio:g}")


DEFAULTS = ClipOptions()


class PreparedClip(NamedTuple):
    """Square frames of an object.

    Attributes:
        images: RGBA, sRGB with straight alpha, uint8, [T, size, size, 4].
        fps: frames a second at which they play at the source's speed.
        alpha_known: False where alpha comes from the white background.
        source_frames: their indices in the source, T of them.
        crop: the squares in the source.
        warnings: for people, a sentence each.
    """

    images: np.ndarray
    fps: float
    alpha_known: bool
    source_frames: tuple[int, ...]
    crop: Crop
    warnings: tuple[str, ...]


class Outline(NamedTuple):
    """What is remembered of a frame's mask.

    Attributes:
        box: see `bounding_box`, [4].
        border: the share of the border's pixels that are in the mask.
        sides: whether it touches the top, left, bottom, right of the image.
    """

    box: np.ndarray
    border: float
    sides: tuple[bool, ...]


def prepare_clip(path: str | Path, options: ClipOptions = DEFAULTS) -> PreparedClip:
    """Reads a clip of one object and cuts it to square frames.

    Args:
        path: of a video, an animated GIF or a folder of pictures; with alpha, or before white.
        options: which frames, and how they are cut.

    Raises:
        InputError: the clip cannot be read, is too short, or the object cannot be told from the
            background.
        WeightsError: the background is to be removed, but what that needs is not installed.
    """
    path = Path(path)
    clip = read_clip(path, options)
    images = clip.images
    if options.remove_background and images.shape[-1] == 3:
        images = remove_background(images)
    alpha_known = images.shape[-1] == 4
    mask_of = _where_alpha if alpha_known else darker_than_white
    outlines = [_outline(mask_of(image)) for image in images]
    _check_outlines(outlines, alpha_known, path)
    crop = _crop(outlines, images, options)
    cut = cut_square if alpha_known else _square_from_white
    squares = [cut(image, crop, t, options.size) for t, image in enumerate(images)]
    return PreparedClip(
        np.stack(squares), clip.fps, alpha_known, clip.source_frames, crop, _warnings(outlines)
    )


def _square_from_white(image: np.ndarray, crop: Crop, frame: int, size: int) -> np.ndarray:
    """As `cut_square`, with alpha estimated where edges are sharpest: before enlarging."""
    square = composite(cut_square(image, crop, frame, size))
    if crop.side >= size:
        return cut_from_white(square, estimated_alpha(square))
    alpha = Image.fromarray(estimated_alpha(composite(cut_square(image, crop, frame, crop.side))))
    return cut_from_white(square, np.asarray(alpha.resize((size, size), Image.Resampling.BICUBIC)))


def _where_alpha(image: np.ndarray) -> np.ndarray:
    return image[..., 3] > 0


def _outline(mask: np.ndarray) -> Outline:
    sides = (mask[0], mask[:, 0], mask[-1], mask[:, -1])
    border = float(np.concatenate(sides).mean())
    return Outline(bounding_box(mask), border, tuple(bool(side.any()) for side in sides))


def _check_outlines(outlines: Sequence[Outline], alpha_known: bool, path: Path) -> None:
    """Refuses clips in which the object cannot be told from the background."""
    T = len(outlines)
    if all(np.isnan(outline.box[0]) for outline in outlines):
        found = "alpha is empty" if alpha_known else "there is nothing but white"
        raise InputError(f"{found} in all {T} frames; an object is needed", path)
    busy = sum(outline.border > BUSY_BORDER for outline in outlines)
    if not alpha_known and busy > T / 2:
        raise InputError(
            f"the background is not white in {busy} of {T} frames; pass --remove-background, or "
            "make it white or transparent first",
            path,
        )


def _crop(outlines: Sequence[Outline], images: np.ndarray, options: ClipOptions) -> Crop:
    boxes = np.stack([outline.box for outline in outlines])
    if options.recenter:
        return following_crop(boxes, options.ratio)
    return centred_crop(boxes, images.shape[1], images.shape[2], options.ratio)


def _warnings(outlines: Sequence[Outline]) -> tuple[str, ...]:
    T, found = len(outlines), []
    empty = sum(bool(np.isnan(outline.box[0])) for outline in outlines)
    if empty:
        found.append(f"no object is seen in {empty} of {T} frames")
    touching = [outline.sides for outline in outlines if any(outline.sides)]
    if touching:
        names = [name for name, hit in zip(SIDES, np.any(touching, axis=0), strict=True) if hit]
        found.append(
            f"the object touches the border of the image ({', '.join(names)}) in {len(touching)} "
            f"of {T} frames and is cut off there"
        )
    return tuple(found)
