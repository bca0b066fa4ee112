"""Colors of hidden surfaces without what only the front has.

An eye, a mouth, a screen or a button is rarely behind an object as well, but a network that cannot
tell the back paints a part of it there. Such a patch is enclosed by other colors, while a sleeve or
a belt that goes around the object reaches the outline of its image: enclosed patches take the color
of what encloses them. The median of the colors around removes the traces that are left.
Letters: S × S pixels of the layers, P pixels of the object, N around each.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion
from skimage.morphology import reconstruction

REACH_PX = 2  # half the side of the square around a pixel, at S = 128
_NEIGHBORS = np.ones((3, 3), np.bool_)
_UNKNOWN = 256  # sorts behind all colors


def without_details(color: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Remove enclosed patches and small details, for each channel.

    Args:
        color: sRGB, uint8, [S, S, 3].
        mask: pixels of the object, bool, [S, S].
    """
    return without_small_details(without_enclosed(color, mask), mask)


def without_enclosed(color: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fill darker patches, then brighter ones, that do not reach the outline; for each channel.

    Filling is morphological reconstruction from the outline (Vincent 1993): a dark pixel takes the
    lowest level that a path of neighbors to the outline must climb to, a bright one the highest to
    which such a path must descend.

    Args:
        color: sRGB, uint8, [S, S, 3].
        mask: pixels of the object, bool, [S, S].
    """
    if not mask.any():
        return color
    solid = np.pad(mask, 1)
    inner = binary_erosion(solid, _NEIGHBORS)
    result = color.copy()
    for channel in range(3):
        level = np.pad(color[..., channel], 1)
        level[~solid] = 255
        level = reconstruction(np.where(inner, 255, level), level, "erosion", _NEIGHBORS)
        level[~solid] = 0
        level = reconstruction(np.where(inner, 0, level), level, "dilation", _NEIGHBORS)
        result[mask, channel] = level[solid]
    return result


def without_small_details(color: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Replace each color by the median of those around it in the mask, for each channel.

    Args:
        color: sRGB, uint8, [S, S, 3].
        mask: pixels of the object, bool, [S, S].
    """
    row, column = np.nonzero(mask)
    if len(row) == 0:
        return color
    padded = np.pad(
        np.where(mask[..., None], color, np.uint16(_UNKNOWN)),
        ((REACH_PX, REACH_PX), (REACH_PX, REACH_PX), (0, 0)),
        constant_values=_UNKNOWN,
    )
    shifts = range(2 * REACH_PX + 1)
    around = np.stack(
        [padded[row + i, column + j] for i in shifts for j in shifts], -1
    )  # [P, 3, N]
    around.sort(axis=-1)
    known = (around[:, 0] < _UNKNOWN).sum(-1)
    middle = (known - 1) // 2  # the pixel itself is known
    result = color.copy()
    result[row, column] = np.take_along_axis(around, middle[:, None, None], -1)[..., 0]
    return result
