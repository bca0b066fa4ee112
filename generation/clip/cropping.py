"""Square crops of a clip, all of one size, so that the object keeps its size and its motion.

By default the crop is centered in the image, as in SV4D's own preprocessing, and as small as the
object allows over all frames; it can be centered on the object, or follow it, instead.
Letters: T frames, H × W pixels; positions are (row, column) in source pixels, from the upper left
corner of the first pixel.

Source: `preprocess_video`,
https://github.com/Stability-AI/generative-models/blob/0ad7de9a5cb53fd63d6d30a4f385485e72e08597/scripts/demo/sv4d_helpers.py
(which confuses rows and columns of images that are not square).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image

from recon.errors import InputError
from recon.grid import Camera
from recon.media import MAX_SIDE

MAX_SQUARE = 2 * MAX_SIDE


class Crop(NamedTuple):
    """Square crop of each frame of a clip.

    Row y of a square resized to `size` shows the source at center − side // 2 + y · side / size,
    both measured from the upper edge of the first pixel; the same holds for columns.

    Attributes:
        centers: (row, column) of the center of the square in each frame, T of them.
        side: side of the squares in pixels; parts outside of the image are empty.
        half: half the side in pixels of the inner square that holds the object; outside of the
            inner square the crop is empty.
    """

    centers: tuple[tuple[float, float], ...]
    side: int
    half: float

    def source_camera(self, frame: int, camera: Camera, height: int, width: int) -> Camera:
        """Return the camera of the source whose image contains that of the square.

        Args:
            frame: frame number t in the clip.
            camera: the camera of the square, resized to any size.
            height: height of the source in pixels.
            width: width of the source in pixels.

        Returns:
            A camera with the same pose, whose principal point is off the middle of the source
            where the square is.
        """
        own = camera.resized(self.side, self.side)
        row, column = self.centers[frame]
        return replace(
            own,
            cx=column - self.side // 2 + own.cx,
            cy=row - self.side // 2 + own.cy,
            height=height,
            width=width,
        )


def bounding_box(mask: np.ndarray) -> np.ndarray:
    """Return first row, first column, last row + 1 and last column + 1 of a mask, float64, [4].

    Args:
        mask: bool, [H, W]; the box of an empty one is NaN.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return np.full(4, np.nan)
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1], dtype=np.float64)


def centered_crop(boxes: np.ndarray, height: int, width: int, ratio: float) -> Crop:
    """Choose a square in the center of the image, the same in all frames.

    Args:
        boxes: bounding boxes of the object, NaN where there is none, [T, 4].
        height: height of the images.
        width: width of the images.
        ratio: longest side of the object over the side of the square, in (0, 1].

    Raises:
        InputError: the square would be too large.
    """
    return _crop(boxes, np.tile([height // 2, width // 2], (len(boxes), 1)), ratio)


def fixed_crop(boxes: np.ndarray, ratio: float) -> Crop:
    """Choose a square around the object, the same in all frames.

    Args:
        boxes: bounding boxes of the object, NaN where there is none, [T, 4]; at least one frame
            must have a box.
        ratio: longest side of the boxes of all frames over the side of the square, in (0, 1].

    Raises:
        InputError: the square would be too large.
    """
    middle = (np.nanmin(boxes[:, :2], axis=0) + np.nanmax(boxes[:, 2:], axis=0)) / 2
    return _crop(boxes, np.tile(middle, (len(boxes), 1)), ratio)


def following_crop(boxes: np.ndarray, ratio: float) -> Crop:
    """Choose squares of one size that follow the object's box along a smooth path.

    Args:
        boxes: bounding boxes of the object, NaN in frames without it, [T, 4]; at least one frame
            must have a box.
        ratio: longest side of the object over the side of the square, in (0, 1].

    Raises:
        InputError: the square would be too large.
    """
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    frames = np.arange(len(boxes))
    known = ~np.isnan(middles[:, 0])
    filled = [np.interp(frames, frames[known], middle[known]) for middle in middles.T]
    return _crop(boxes, _smooth(len(boxes)) @ np.stack(filled, axis=-1), ratio)


def cut_square(
    image: np.ndarray,
    crop: Crop,
    frame: int,
    size: int,
    resampling: Image.Resampling = Image.Resampling.LANCZOS,
) -> np.ndarray:
    """Cut and resize the square of one frame.

    Args:
        image: uint8, [H, W, 3 or 4].
        crop: crop of the clip.
        frame: frame number t in the clip.
        size: side of the result in pixels.
        resampling: the filter.

    Returns:
        RGBA with straight alpha, uint8, [size, size, 4]; empty outside of the image.
    """
    corner = np.array(crop.centers[frame]) - crop.side // 2
    first = np.floor(corner).astype(int)
    inset = corner - first
    canvas = np.zeros((*(crop.side + np.ceil(inset).astype(int)), 4), dtype=np.uint8)
    low = np.floor(np.array(crop.centers[frame]) - crop.half).astype(int)
    high = np.ceil(np.array(crop.centers[frame]) + crop.half).astype(int)
    top, left = np.maximum(np.maximum(low, first), 0)
    bottom, right = np.minimum(np.minimum(high, first + canvas.shape[:2]), image.shape[:2])
    place = canvas[top - first[0] : bottom - first[0], left - first[1] : right - first[1]]
    place[..., 3] = 255
    place[..., : image.shape[-1]] = image[top:bottom, left:right]
    box = (inset[1], inset[0], inset[1] + crop.side, inset[0] + crop.side)
    # Pillow weights colors by alpha here, so that hidden colors do not bleed into edges.
    return np.asarray(Image.fromarray(canvas).resize((size, size), resampling, box=box))


def _crop(boxes: np.ndarray, centers: np.ndarray, ratio: float) -> Crop:
    half = float(np.nanmax([centers - boxes[:, :2], boxes[:, 2:] - centers]))
    side = int(2 * half / ratio)
    if side > MAX_SQUARE:
        raise InputError(
            f"expected a square of at most {MAX_SQUARE} pixels around the object, found {side}; "
            "downscale the video"
        )
    return Crop(tuple((row, column) for row, column in centers.tolist()), side, half)


def _smooth(T: int) -> np.ndarray:
    """Return the matrix [T, T] of a local linear fit, which keeps steady motion."""
    if T == 1:
        return np.ones((1, 1))  # a line needs two points
    offsets = np.arange(T)[None, :] - np.arange(T)[:, None]
    weights = np.exp(-0.5 * (offsets / max(1.0, T / 8)) ** 2)
    s0, s1, s2 = ((weights * offsets**power).sum(axis=1, keepdims=True) for power in (0, 1, 2))
    return weights * (s2 - s1 * offsets) / (s0 * s2 - s1**2)
