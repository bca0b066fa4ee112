"""One square for a whole clip, so that the object keeps its size and its motion.

As SV4D's own preparation does, the square lies about the centre of the image and is as small as the
object allows over all frames; or it follows the object. Letters: T frames, H × W pixels; positions
are (row, column) in source pixels, counted from the upper left corner of the first pixel.
Source: `preprocess_video`,
https://github.com/Stability-AI/generative-models/blob/0ad7de9a5cb53fd63d6d30a4f385485e72e08597/scripts/demo/sv4d_helpers.py
(which takes rows for columns where an image is not square).
What it does not know: how the object was found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from recon.errors import InputError
from recon.media import MAX_SIDE

MAX_SQUARE = 2 * MAX_SIDE


class Crop(NamedTuple):
    """The squares that frames are cut to.

    Row y of a square resized to `size` shows the source at centre − side // 2 + y · side / size,
    both counted from the upper edge of the first pixel; columns likewise.

    Attributes:
        centres: (row, column) of the middle of the square in each frame, T of them.
        side: of the squares; the part of a square outside the image is empty.
        half: of the side of the smaller square that holds the object; outside it nothing is taken
            from the source.
    """

    centres: tuple[tuple[float, float], ...]
    side: int
    half: float


def bounding_box(mask: np.ndarray) -> np.ndarray:
    """First row, first column, last row + 1, last column + 1 of a mask, float64 [4]; NaN if empty.

    Args:
        mask: bool, [H, W].
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return np.full(4, np.nan)
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1], dtype=np.float64)


def centred_crop(boxes: np.ndarray, height: int, width: int, ratio: float) -> Crop:
    """A square about the centre of the image, the same in all frames.

    Args:
        boxes: of the object, NaN where there is none, [T, 4].
        height: of the images.
        width: of the images.
        ratio: the object's share of the side, in (0, 1].

    Raises:
        InputError: the square would be absurdly large.
    """
    return _crop(boxes, np.tile([height // 2, width // 2], (len(boxes), 1)), ratio)


def following_crop(boxes: np.ndarray, ratio: float) -> Crop:
    """Squares of one size that follow the object's box.

    Their path is smooth, so that limbs that move do not shake it.

    Args:
        boxes: of the object, NaN where there is none, not everywhere, [T, 4].
        ratio: the object's share of the side, in (0, 1].

    Raises:
        InputError: the square would be absurdly large.
    """
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    frames = np.arange(len(boxes))
    known = ~np.isnan(middles[:, 0])
    filled = [np.interp(frames, frames[known], middle[known]) for middle in middles.T]
    return _crop(boxes, _smooth(len(boxes)) @ np.stack(filled, axis=-1), ratio)


def cut_square(image: np.ndarray, crop: Crop, frame: int, size: int) -> np.ndarray:
    """A frame's square, resized.

    Args:
        image: uint8, [H, W, 3 or 4].
        crop: for the clip.
        frame: which of its centres.
        size: of the result.

    Returns:
        RGBA with straight alpha, uint8, [size, size, 4]; empty outside the image.
    """
    corner = np.array(crop.centres[frame]) - crop.side // 2
    first = np.floor(corner).astype(int)
    inset = corner - first
    canvas = np.zeros((*(crop.side + np.ceil(inset).astype(int)), 4), dtype=np.uint8)
    low = np.floor(np.array(crop.centres[frame]) - crop.half).astype(int)
    high = np.ceil(np.array(crop.centres[frame]) + crop.half).astype(int)
    top, left = np.maximum(np.maximum(low, first), 0)
    bottom, right = np.minimum(np.minimum(high, first + canvas.shape[:2]), image.shape[:2])
    place = canvas[top - first[0] : bottom - first[0], left - first[1] : right - first[1]]
    place[..., 3] = 255
    place[..., : image.shape[-1]] = image[top:bottom, left:right]
    box = (inset[1], inset[0], inset[1] + crop.side, inset[0] + crop.side)
    # Pillow weights colours by alpha here, so that what is hidden does not bleed into edges.
    return np.asarray(
        Image.fromarray(canvas).resize((size, size), Image.Resampling.LANCZOS, box=box)
    )


def _crop(boxes: np.ndarray, centres: np.ndarray, ratio: float) -> Crop:
    half = float(np.nanmax([centres - boxes[:, :2], boxes[:, 2:] - centres]))
    side = int(2 * half / ratio)
    if side > MAX_SQUARE:
        raise InputError(
            f"the object in its square would need {side} pixels on a side, at most {MAX_SQUARE} "
            "are handled; make the video smaller or the ratio larger"
        )
    return Crop(tuple((row, column) for row, column in centres.tolist()), side, half)


def _smooth(T: int) -> np.ndarray:
    """[T, T]: a line is fitted around each frame, so that steady motion is not held back."""
    offsets = np.arange(T)[None, :] - np.arange(T)[:, None]
    weights = np.exp(-0.5 * (offsets / max(1.0, T / 8)) ** 2)
    s0, s1, s2 = ((weights * offsets**power).sum(axis=1, keepdims=True) for power in (0, 1, 2))
    return weights * (s2 - s1 * offsets) / (s0 * s2 - s1**2)
