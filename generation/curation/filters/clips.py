"""One view of a grid as input of the filters: cropped to the object, over white, downsampled.

All scores are computed in the object's bounding box at a limited resolution, because most of a
rendered image is empty and grids have different sizes. Letters: T frames, h × w pixels of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from recon.grid import Grid

BRIGHTEST_OBJECT = 0.75  # the object is dimmed, so that a white one is visible over white
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
OPAQUE = 0.5
MARGIN = 0.04  # margin on each side of the box, as a fraction of its size


@dataclass(frozen=True)
class Clip:
    """The frames of one view, cropped to the object's bounding box over all frames.

    Attributes:
        rgb: sRGB in [0, 1] over white, float32, [T, h, w, 3].
        alpha: alpha in [0, 1], float32, [T, h, w].
        coverage: fraction of the full image that the object covers, [T].
        touches_border: whether the object reaches the border of the full image, [T].
        diagonal_px: diagonal of the object's box, without the margin.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    coverage: np.ndarray
    touches_border: np.ndarray
    diagonal_px: float

    @property
    def gray(self) -> np.ndarray:
        """Luminance of the dimmed object, in [0, 0.75], over white, float32, [T, h, w]."""
        return self.rgb @ LUMA - (1 - BRIGHTEST_OBJECT) * self.alpha

    def at(self, frames: np.ndarray) -> Clip:
        """Select frames by index."""
        return Clip(
            self.rgb[frames],
            self.alpha[frames],
            self.coverage[frames],
            self.touches_border[frames],
            self.diagonal_px,
        )

    def shrunk(self, side_px: int) -> Clip:
        """Downsample so that the longer side has at most `side_px` pixels."""
        scale = min(1.0, side_px / max(self.alpha.shape[1:]))
        rgb = np.stack([resized(self.rgb[..., channel], scale) for channel in range(3)], axis=-1)
        return Clip(
            rgb,
            resized(self.alpha, scale),
            self.coverage,
            self.touches_border,
            self.diagonal_px * scale,
        )


def view_clip(grid: Grid, view: int) -> Clip | None:
    """Crop all frames of one view; None if the object is visible in none of them.

    Args:
        grid: a grid with all frames of all views.
        view: index of the view.
    """
    images = grid.images[grid.of_view(view)]
    opaque = images[..., 3] >= 255 * OPAQUE
    if not opaque.any():
        return None
    rows, columns = (_extent(np.asarray(opaque.any(axis=(0, axis)))) for axis in (2, 1))
    rgba = images[:, _widened(rows, grid.height), _widened(columns, grid.width)]
    rgba = rgba.astype(np.float32) / 255
    alpha = rgba[..., 3:]
    return Clip(
        rgb=rgba[..., :3] * alpha + (1 - alpha),
        alpha=alpha[..., 0],
        coverage=opaque.mean(axis=(1, 2)),
        touches_border=_touches_border(opaque),
        diagonal_px=float(np.hypot(rows[1] - rows[0], columns[1] - columns[0])),
    )


def evenly(count: int, most: int) -> np.ndarray:
    """Return at most `most` evenly spaced indices below `count`, beginning with 0."""
    number = min(count, most)
    return np.arange(number) * count // number


def resized(images: np.ndarray, scale: float) -> np.ndarray:
    """Downsample float images [T, h, w] by a factor `scale` ≤ 1 with a box filter."""
    size = [max(1, round(length * scale)) for length in images.shape[:0:-1]]
    if size == list(images.shape[:0:-1]):
        return images
    return np.stack(
        [
            np.asarray(
                Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.BOX)
            )
            for image in images
        ]
    )


def _extent(filled: np.ndarray) -> tuple[int, int]:
    """Return the first index that is True, and the last one + 1."""
    indices = np.flatnonzero(filled)
    return int(indices[0]), int(indices[-1]) + 1


def _widened(extent: tuple[int, int], length: int) -> slice:
    """Return the extent with its margin, clipped to the image."""
    margin = max(2, round(MARGIN * (extent[1] - extent[0])))
    return slice(max(0, extent[0] - margin), min(length, extent[1] + margin))


def _touches_border(opaque: np.ndarray) -> np.ndarray:
    inside = opaque[:, 1:-1, 1:-1].sum(axis=(1, 2))
    return opaque.sum(axis=(1, 2)) > inside
