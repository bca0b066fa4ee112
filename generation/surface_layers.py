"""Surface layers: where the rays of one view enter and leave the object.

A ray crosses at most two solid parts here, such as an arm in front of a body; parts between the
first and the last one are not represented. Letters: H × W pixels, L crossings, P pixels that show
the object.
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
        color: shaded colors of the triangles' fronts, sRGB; where there is one part, the two inner
            layers have those of back and front, uint8, [4, H, W, 3].
        mask: whether the ray meets the object, bool, [H, W].
        gap: whether there are two parts; else the two inner layers are in the middle, bool, [H, W].
    """

    depth: np.ndarray
    color: np.ndarray
    mask: np.ndarray
    gap: np.ndarray


def solid_layers(crossings: Crossings, height: int, width: int) -> SurfaceLayers:
    """Select the layers from all crossings of a view; see `layer_crossings`.

    Args:
        crossings: crossings of the view.
        height: image height H in pixels.
        width: image width W in pixels.
    """
    chosen = layer_crossings(crossings)
    places = crossings.pixel[chosen[FRONT]]
    found = SurfaceLayers(
        np.zeros((4, height * width), np.float32),
        np.zeros((4, height * width, 3), np.uint8),
        np.zeros(height * width, np.bool_),
        np.zeros(height * width, np.bool_),
    )
    found.depth[:, places] = crossings.depth[chosen]
    found.color[:, places] = crossings.color[chosen]
    found.mask[places] = True
    found.gap[places] = chosen[FRONT] != chosen[LAST_ENTRY]
    whole = found.mask & ~found.gap
    found.depth[FIRST_EXIT : LAST_ENTRY + 1, whole] = found.depth[[FRONT, BACK]][:, whole].mean(0)
    return SurfaceLayers(
        found.depth.reshape(4, height, width),
        found.color.reshape(4, height, width, 3),
        found.mask.reshape(height, width),
        found.gap.reshape(height, width),
    )


def layer_normals(crossings: Crossings, height: int, width: int) -> np.ndarray:
    """Return the normals of `solid_layers`, 0 where the ray meets nothing, float32, [4, H, W, 3].

    They are unit shading normals on the triangles' fronts, which is the outside of a solid, in the
    world frame. Where there is one part, the two inner layers have those of back and front.

    Args:
        crossings: crossings of the view.
        height: image height H in pixels.
        width: image width W in pixels.
    """
    chosen = layer_crossings(crossings)
    normals = np.zeros((4, height * width, 3), np.float32)
    normals[:, crossings.pixel[chosen[FRONT]]] = crossings.normal[chosen]
    return normals.reshape(4, height, width, 3)


def layer_crossings(crossings: Crossings) -> np.ndarray:
    """Return the indices of the crossings that are the four layers of each pixel, [4, P].

    Along a ray, each exit belongs to the last entry before it that has no exit yet, and solid parts
    lie between them. An entry without an exit, and an exit without an entry, is a sheet: a part
    without thickness; the exit only if images show it, which they do not from behind a single-sided
    surface. Parts that overlap or are closer than `SMALLEST_GAP` are one part.

    Args:
        crossings: crossings of the view.
    """
    start, end = _parts(crossings)
    pixel, depth = crossings.pixel, crossings.depth
    first = _is_first(pixel[start])
    near = first.copy()  # after closing the smallest gaps, a part begins here
    near[1:] |= depth[start][1:] - depth[end][:-1] > SMALLEST_GAP
    start, end, first = start[near], end[_is_last(near)], first[near]
    last = _is_last(first)
    return np.stack([start[first], end[first], start[last], end[last]])


def _parts(crossings: Crossings) -> tuple[np.ndarray, np.ndarray]:
    """Return the crossings at which each part begins and ends, in order along the rays."""
    turn = crossings.winding.astype(np.int64)
    new = _is_first(crossings.pixel)
    ray = np.cumsum(new)
    total = np.cumsum(turn)
    total -= (total - turn)[new][ray - 1]  # the sums begin anew with each ray
    # Unmatched exits lower all sums that follow, unmatched entries raise them: subtract the lowest
    # sum before, then the lowest one after. Steps between the rays keep their minima apart.
    step = (4 * len(turn) + 4) * ray
    total -= np.minimum.accumulate(np.minimum(total, 0) - step) + step
    inside = total - (np.minimum.accumulate((total + step)[::-1])[::-1] - step)
    ends = inside == 0  # at the last crossing of a ray, too
    begins = np.ones_like(ends)
    begins[1:] = ends[:-1]
    visible = crossings.shown | (begins != ends)  # both are true for sheets
    return np.flatnonzero(begins & visible), np.flatnonzero(ends & visible)


def _is_first(groups: np.ndarray) -> np.ndarray:
    """Return whether each entry is the first of its group, for groups in order, bool."""
    first = np.ones(len(groups), np.bool_)
    first[1:] = groups[1:] != groups[:-1]
    return first


def _is_last(first: np.ndarray) -> np.ndarray:
    """Return whether each entry is the last of its group, for `first` of `_is_first`, bool."""
    last = np.ones_like(first)
    last[:-1] = first[1:]
    return last
