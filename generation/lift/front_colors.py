"""Colors of the visible surface without those of what is beside it in the image.

A pixel on the silhouette is mixed with the background, and one on the outline of a part in front
of another with both parts. From the side, such colors would be streaks on the part behind.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

from generation.lift.columns import Columns

OPAQUE = 245  # alpha from which a pixel's color is free of background
RIM_PX = 3.0  # distance up to which the color of an opaque pixel replaces that of the rim
STEP = 2.0  # change in depth between neighbors that is an outline, in tolerances of the columns
OUTLINE_PX = 2  # distance up to which colors replace those of an outline
_FARTHER = 0.2  # weight of the distance in pixels, beside that in depth in steps
_WORST = 1.2  # of that sum


def front_colors(image: np.ndarray, columns: Columns) -> np.ndarray:
    """Return the colors of the front of each pixel, sRGB, uint8, [H, W, 3].

    Args:
        image: RGBA, sRGB with straight alpha, uint8, [H, W, 4].
        columns: columns of the image, whose depths tell where outlines are.
    """
    return _without_outlines(_without_background(image), columns)


def _without_background(image: np.ndarray) -> np.ndarray:
    opaque = image[..., 3] >= OPAQUE
    if not opaque.any():
        return image[..., :3]
    transform = distance_transform_edt(~opaque, return_indices=True)
    assert transform is not None  # it is only where both results are arguments
    distance, (row, column) = transform
    near = (distance <= RIM_PX)[..., None]
    return np.where(near, image[row, column, :3], image[..., :3])


def _without_outlines(color: np.ndarray, columns: Columns) -> np.ndarray:
    """Replace colors beside steps in depth by the nearest ones of the same side."""
    front, solid, step = columns.depth[0], columns.parts > 0, STEP * columns.tolerance
    outline = _beside_steps(front, solid, step)
    row, column = np.nonzero(outline)
    allowed = solid & ~outline
    best, found = np.full(len(row), _WORST), color[row, column]
    reach = range(-OUTLINE_PX, OUTLINE_PX + 1)
    for down, right in ((down, right) for down in reach for right in reach):
        there = (
            (row + down).clip(0, front.shape[0] - 1),
            (column + right).clip(0, front.shape[1] - 1),
        )
        cost = np.abs(front[there] - front[row, column]) / step
        cost += _FARTHER * np.hypot(down, right)
        better = allowed[there] & (cost < best)
        best = np.where(better, cost, best)
        found = np.where(better[:, None], color[there], found)
    result = color.copy()
    result[row, column] = found
    return result


def _beside_steps(front: np.ndarray, solid: np.ndarray, step: float) -> np.ndarray:
    found = np.zeros(solid.shape, np.bool_)
    for one, other in (
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        steep = (np.abs(front[one] - front[other]) > step) & solid[one] & solid[other]
        found[one] |= steep
        found[other] |= steep
    return found
