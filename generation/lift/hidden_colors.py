"""Colors of hidden surfaces without what only the front has.

    front ──details──▶ patches ─┐
    color ──────────────────────┴─painted over──▶ enclosed patches filled ──▶ median filter

A face, a belly, a screen or a button is rarely behind an object as well, but a network that cannot
tell the back paints a part of it there. Such a patch of the front has few of its borders on the
outline of the image, and the object does not fall apart without it; a sleeve, a shoe or a belt,
which go around the object, differ in one of the two. What is left of enclosed patches takes the
color of what encloses them, and the median of the colors around removes the last traces.

Letters: S × S pixels of the layers, P pixels of the object, N around each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, label, median_filter
from skimage.color import rgb2lab
from skimage.morphology import reconstruction

REACH_PX = 2  # half the side of the square around a pixel, at S = 128
STEP = 3.0  # to which colors in CIELAB are rounded, because their clustering is quadratic
NEAR = 14.0  # mean distance of colors in CIELAB up to which they are of one patch
LIGHTNESS = 0.5  # weight of the lightness in that distance, because light falls from one side
ON_OUTLINE = 0.4  # share of a patch's border on the outline from which it goes around the object
PART = 0.1  # of the object's pixels: a smaller piece is no part of it
MOST = 0.2  # of the object's pixels: details have a color that is rarer
SIGMAS_PX = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # of what a detail is painted over with
_NEIGHBORS = np.ones((3, 3), np.bool_)
_UNKNOWN = 256  # sorts behind all colors


def without_details(color: np.ndarray, front: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Remove details of the front, enclosed patches and small details.

    Args:
        color: sRGB of the hidden surface, uint8, [S, S, 3].
        front: sRGB of the front in the same pixels, uint8, [S, S, 3].
        mask: pixels of the hidden surface, bool, [S, S].
    """
    plain = painted_over(color, details(front, mask), mask)
    return without_small_details(without_enclosed(plain, mask), mask)


def details(front: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Find the patches of one color that only the front has.

    Args:
        front: sRGB, uint8, [S, S, 3].
        mask: pixels of the object, bool, [S, S].

    Returns:
        Their pixels, bool, [S, S].
    """
    found, pixels = np.zeros_like(mask), mask.sum()
    outline = mask & ~_inner(mask)
    parts = _count_parts(mask, pixels)
    for patch in _patches(front, mask):
        on_outline = (patch & outline).sum() / (patch & ~_inner(patch)).sum()
        if on_outline >= ON_OUTLINE:
            continue
        if on_outline == 0 or _count_parts(mask & ~patch, pixels) <= parts:
            found |= patch
    return found


def painted_over(color: np.ndarray, patches: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Give patches, and the pixels beside them, the mean color of what is near them.

    Args:
        color: sRGB, uint8, [S, S, 3].
        patches: their pixels, bool, [S, S].
        mask: pixels of the object, bool, [S, S].
    """
    kept = mask & np.logical_not(binary_dilation(patches, _NEIGHBORS))
    result, left = color.copy(), mask & ~kept
    for sigma in SIGMAS_PX:
        if not left.any() or not kept.any():
            break
        weight = gaussian_filter(kept.astype(np.float32), sigma)
        known = left & (weight > 0.02)
        for channel in range(3):
            near = gaussian_filter(np.where(kept, color[..., channel], 0.0), sigma)
            result[known, channel] = (near[known] / weight[known]).round().clip(0, 255)
        left &= ~known
    return result


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


def _patches(front: np.ndarray, mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the connected pixels of each color that is not frequent, bool, [S, S] each."""
    lab = median_filter(rgb2lab(front), (3, 3, 1)) * [LIGHTNESS, 1.0, 1.0]
    steps, step_of = np.unique((lab[mask] / STEP).round(), axis=0, return_inverse=True)
    merged = np.ones(1, np.int64)
    if len(steps) > 1:
        merged = fcluster(linkage(STEP * steps, "average"), NEAR, "distance")
    cluster = np.zeros(mask.shape, np.int64)
    cluster[mask] = merged[step_of.ravel()]
    for number in np.unique(cluster[mask]):
        if (cluster == number).sum() > MOST * mask.sum():
            continue
        patches = _connected(cluster == number)
        yield from (patches == patch for patch in range(1, patches.max() + 1))


def _count_parts(mask: np.ndarray, pixels: int) -> int:
    """Count the connected parts of a mask that are no small pieces of an object of some pixels."""
    return int((np.bincount(_connected(mask).ravel())[1:] > PART * pixels).sum())


def _connected(mask: np.ndarray) -> np.ndarray:
    """Number the connected parts of a mask from 1; 0 elsewhere, integer, [S, S]."""
    parts: Any = label(mask, _NEIGHBORS)
    return parts[0]


def _inner(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask whose eight neighbors are in it, too; outside is no mask."""
    return binary_erosion(mask, _NEIGHBORS)
