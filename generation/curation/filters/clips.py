"""One view of a grid as the filters look at it: the object cut out, small, and apart from white.

Letters: T frames, h × w pixels of the cut-out. Renderers leave most of an image empty, and grids
come in any size; so everything is measured on the box of the object, never larger than some side.
What it does not know: what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from recon.grid import Grid

BRIGHTEST_OBJECT = 0.75  # it is dimmed to that, so that its outline shows even if it is white
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
OPAQUE = 0.5
MARGIN = 0.04  # of the box, on each side


@dataclass(frozen=True)
class Clip:
    """The frames of one view, cut to the box that the object fills over all of them.

    Attributes:
        rgb: sRGB in [0, 1] over white, float32, [T, h, w, 3].
        alpha: in [0, 1], float32, [T, h, w].
        coverage: share of the whole image that the object fills, [T].
        touches_border: whether the object reaches the border of the whole image, [T].
        diagonal_px: of the object's box, without the margin.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    coverage: np.ndarray
    touches_border: np.ndarray
    diagonal_px: float

    @property
    def gray(self) -> np.ndarray:
        """Luminance, the object dimmed to [0, 0.75] over a background of 1, float32, [T, h, w]."""
        return self.rgb @ LUMA - (1 - BRIGHTEST_OBJECT) * self.alpha

    def at(self, frames: np.ndarray) -> Clip:
        """Some of the frames, by index."""
        return Clip(
            self.rgb[frames],
            self.alpha[frames],
            self.coverage[frames],
            self.touches_border[frames],
            self.diagonal_px,
        )

    def shrunk(self, side_px: int) -> Clip:
        """The same with at most so many pixels on the longer side; never enlarged."""
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
    """All frames of one view, cut out; None where no pixel of them shows the object.

    Args:
        grid: whose.
        view: index of the camera.
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
    """At most `most` of the indices below `count`, evenly spread; the first is one of them."""
    number = min(count, most)
    return np.arange(number) * count // number


def resized(images: np.ndarray, scale: float) -> np.ndarray:
    """Smaller float images, each pixel the mean of what it covers; [T, h, w]."""
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
    """The first index that is filled and the one after the last."""
    indices = np.flatnonzero(filled)
    return int(indices[0]), int(indices[-1]) + 1


def _widened(extent: tuple[int, int], length: int) -> slice:
    """The extent with its margin, within the image."""
    margin = max(2, round(MARGIN * (extent[1] - extent[0])))
    return slice(max(0, extent[0] - margin), min(length, extent[1] + margin))


def _touches_border(opaque: np.ndarray) -> np.ndarray:
    inside = opaque[:, 1:-1, 1:-1].sum(axis=(1, 2))
    return opaque.sum(axis=(1, 2)) > inside
