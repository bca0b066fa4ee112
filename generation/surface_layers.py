"""Surface layers: where the rays of one view enter and leave the object.

A ray crosses at most two solid parts here, such as an arm in front of a body; parts between the
first and the last one are not represented. Letters: H × W pixels, L crossings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recon.native.mesh import Crossings

FRONT, FIRST_EXIT, LAST_ENTRY, BACK = range(4)  # indices of the layers
SMALLEST_GAP = 0.02  # world units; parts that are closer to one another are one part


class SurfaceLayers(NamedTuple):
    """The four surfaces along each pixel's ray; where there is one part, the gap has no width.

    Attributes:
        depth: distance along the optical axis of front, exit of the first part, entry of the last
            part, and back, ascending; 0 where the ray meets nothing, float32, [4, H, W].
        color: shaded colors of the four surfaces, sRGB, uint8, [4, H, W, 3].
        mask: whether the ray meets the object, bool, [H, W].
        gap: whether there are two parts; else the two inner layers are in the middle, bool, [H, W].
    """

    depth: np.ndarray
    color: np.ndarray
    mask: np.ndarray
    gap: np.ndarray


def solid_layers(crossings: Crossings, height: int, width: int) -> SurfaceLayers:
    """Select the layers from all crossings of a view, by the winding number along each ray.

    A ray is inside where the winding number is positive. A surface that is met from the back
    outside, and one that is never left, is a sheet without thickness.

    Args:
        crossings: crossings of the view.
        height: image height H in pixels.
        width: image width W in pixels.
    """
    start, end = _parts(crossings)
    pixel, depth = crossings.pixel, crossings.depth
    near = np.r_[True, pixel[start][1:] != pixel[end][:-1]]  # the first part of its pixel
    near[1:] |= depth[start][1:] - depth[end][:-1] > SMALLEST_GAP
    far = np.r_[near[1:], True]
    start, end = start[near], end[far]  # parts after closing the smallest gaps
    first = np.r_[True, pixel[start][1:] != pixel[start][:-1]][: len(start)]
    last = np.r_[first[1:], True][: len(start)]
    chosen = np.stack([start[first], end[first], start[last], end[last]])
    places = pixel[chosen[0]]
    found = SurfaceLayers(
        np.zeros((4, height * width), np.float32),
        np.zeros((4, height * width, 3), np.uint8),
        np.zeros(height * width, np.bool_),
        np.zeros(height * width, np.bool_),
    )
    found.depth[:, places] = depth[chosen]
    found.color[:, places] = crossings.color[chosen]
    found.mask[places] = True
    found.gap[places] = start[first] != start[last]
    whole = found.mask & ~found.gap
    found.depth[FIRST_EXIT : LAST_ENTRY + 1, whole] = found.depth[[FRONT, BACK]][:, whole].mean(0)
    return SurfaceLayers(*(a.reshape(*_shape(a, height, width)) for a in found))


def _parts(crossings: Crossings) -> tuple[np.ndarray, np.ndarray]:
    """Return the crossings at which each solid part begins and ends, in order along the rays."""
    turn = crossings.winding.astype(np.int64)
    new = np.r_[True, crossings.pixel[1:] != crossings.pixel[:-1]][: len(turn)]
    ray = np.cumsum(new)
    total = np.cumsum(turn)
    before_ray = (total - turn)[new][ray - 1]
    total = total - before_ray
    # the winding number never falls below 0: subtract the lowest sum so far along the ray
    step = 4 * len(turn) + 4
    lowest = np.minimum.accumulate(np.minimum(total, 0) - step * ray) + step * ray
    after = total - lowest
    before = np.where(new, 0, np.r_[0, after[:-1]][: len(turn)])
    begins = before == 0
    final = np.r_[new[1:], True][: len(turn)]
    ends = (after == 0) | final
    return np.flatnonzero(begins), np.flatnonzero(ends)


def _shape(array: np.ndarray, height: int, width: int) -> tuple[int, ...]:
    pixels = 1 if array.ndim > 1 else 0
    return (*array.shape[:pixels], height, width, *array.shape[pixels + 1 :])
