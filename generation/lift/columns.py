"""Columns: the solid intervals along the rays of an image, from surface layers of another size.

Letters: h × w pixels of the layers, H × W of the image, P pixels of the object.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt

from generation.lift.cells import matched_bounds
from generation.surface_layers import BACK, FIRST_EXIT, FRONT, LAST_ENTRY, SurfaceLayers
from recon.grid import Camera

STEEPEST = 2.5  # gap in depth over the distance of two pixels of the layers, up to which they join
THINNEST = 0.5  # thickness of an interval, in pixels of the image
SIMILAR = 40.0  # difference of colors of one surface, as a standard deviation
_ALL = slice(None)


class Columns(NamedTuple):
    """Intervals of pixels.

    Attributes:
        parts: number of intervals, 0 to 2, uint8, [...].
        depth: entry and exit of the first, entry and exit of the second interval, ascending;
            float32, [4, ...].
        color: sRGB at these four, uint8, [4, ..., 3].
        tolerance: gap in depth up to which the intervals of neighbors count as overlapping.
    """

    parts: np.ndarray
    depth: np.ndarray
    color: np.ndarray
    tolerance: float

    def at(self, *index: slice | np.ndarray) -> Columns:
        """Return a part, by an index of the pixels."""
        parts = self.parts[index], self.depth[(_ALL, *index)], self.color[(_ALL, *index)]
        return Columns(*parts, self.tolerance)


def columns_of(
    layers: SurfaceLayers, solid: np.ndarray, image: np.ndarray, camera: Camera
) -> Columns:
    """Interpolate layers at the pixels of an image.

    A pixel belongs to the surface of one of the four pixels of the layers around it: the nearest
    one, unless its color is like that of another. The others contribute as far as their intervals
    overlap with those of that one. Depths are interpolated, and extrapolated towards the
    silhouette, with the slope of each surface.

    Args:
        layers: surface layers that are not empty; the colors of their front are not used.
        solid: pixels of the object, bool, [H, W].
        image: RGBA, uint8, [H, W, 4].
        camera: camera of the image.
    """
    coarse = _coarse_columns(layers, camera)
    height, width = layers.mask.shape
    slopes = _slopes(coarse, (height, width))
    row, column = np.nonzero(solid)
    near = _neighbors(layers.mask, row, column, (solid.shape[0], solid.shape[1]))
    likeness = _likeness(image, (height, width), near.pixel, image[row, column, :3])
    own = (near.weight * likeness).argmax(0)
    reference = coarse.at(near.pixel[own, np.arange(len(row))])
    depth, color = np.zeros((4, len(row))), np.zeros((4, len(row), 3))
    total = np.zeros((4, len(row)))
    for k in range(4):
        other = coarse.at(near.pixel[k])
        bounds = _TABLE[overlaps(reference, other)].T
        bounds[:, own == k] = np.arange(4)[:, None]
        weight = np.where(bounds >= 0, near.weight[k], 0.0)
        bounds = np.maximum(bounds, 0)
        rise = slopes[:, bounds, near.pixel[k]] * near.offset[:, k, None]
        total += weight
        depth += weight * (np.take_along_axis(other.depth, bounds, 0) + rise.sum(0))
        color += weight[..., None] * np.take_along_axis(other.color, bounds[..., None], 0)
    depth /= total
    _thicken(depth, THINNEST * float(depth[0].mean()) / camera.fl_x)
    columns = Columns(
        np.zeros(solid.shape, np.uint8),
        np.zeros((4, *solid.shape), np.float32),
        np.zeros((4, *solid.shape, 3), np.uint8),
        coarse.tolerance,
    )
    columns.parts[row, column] = reference.parts
    columns.depth[:, row, column] = depth
    columns.color[:, row, column] = np.rint(color / total[..., None])
    return columns


def overlaps(one: Columns, other: Columns) -> np.ndarray:
    """Return which intervals of two pixels overlap, as bits for `cells.matched_bounds`, [...]."""
    near = np.zeros((2, 2, *one.parts.shape), np.bool_)
    for i, j in np.ndindex(2, 2):
        begin = np.maximum(one.depth[2 * i], other.depth[2 * j])
        end = np.minimum(one.depth[2 * i + 1], other.depth[2 * j + 1])
        near[i, j] = (begin - end <= one.tolerance) & (one.parts > i) & (other.parts > j)
    crossed = near[0, 1] & near[1, 0]  # within the tolerance only
    near[0, 0] |= crossed
    near[1, 1] |= crossed
    parallel = near[0, 0] & near[1, 1]  # the space between continues, too
    near[0, 1] &= ~parallel
    near[1, 0] &= ~parallel
    return (near[0, 0] + 2 * near[0, 1] + 4 * near[1, 0] + 8 * near[1, 1]).astype(np.int64)


def swapped(overlaps: np.ndarray) -> np.ndarray:
    """Exchange the two pixels of each pair in the result of `overlaps`."""
    return overlaps & 9 | (overlaps & 2) << 1 | (overlaps & 4) >> 1


def _bound_table() -> np.ndarray:
    """For each result of `overlaps`, the bound that continues each of the four, −1 for none."""
    table = np.full((16, 4), -1)
    for bits in range(16):
        for a, b in matched_bounds(bits):
            table[bits, a] = b
    return table


_TABLE = _bound_table()


class _Neighbors(NamedTuple):
    """The four pixels of the layers around each pixel of the image.

    Attributes:
        pixel: flat indices, [4, P].
        weight: bilinear weight, 0 outside of the mask, [4, P].
        offset: rows and columns from them to the pixel, at most 1, [2, 4, P].
    """

    pixel: np.ndarray
    weight: np.ndarray
    offset: np.ndarray


def _coarse_columns(layers: SurfaceLayers, camera: Camera) -> Columns:
    """Return the columns of the layers themselves, with flat arrays of pixels, [h · w]."""
    gap = (layers.gap & layers.mask).ravel()
    first = np.where(gap, FIRST_EXIT, BACK)
    index = np.stack(np.broadcast_arrays(FRONT, first, LAST_ENTRY, BACK))
    depth = np.take_along_axis(layers.depth.reshape(4, -1), index, 0)
    color = np.take_along_axis(layers.color.reshape(4, -1, 3), index[..., None], 0)
    pixel = float(layers.depth[FRONT][layers.mask].mean()) / camera.fl_x
    pixel *= camera.width / layers.mask.shape[1]
    count = layers.mask.ravel().astype(np.uint8) + gap
    return Columns(count, depth, color, STEEPEST * pixel)


def _slopes(columns: Columns, shape: tuple[int, int]) -> np.ndarray:
    """Return the rise of each bound per row and per column, [2, 4, h · w].

    It is the smaller of the differences to the two neighbors, 0 where these have unlike signs,
    and the only difference where a surface has one neighbor, as far as its interval gets thinner
    towards the other side: noise must not become spikes.
    """
    slopes = []
    for stride, ahead in _adjacent(shape):
        before = np.full((4, columns.parts.size), np.nan)
        after = before.copy()
        one, other = columns.at(ahead), columns.at(ahead + stride)
        bits = overlaps(one, other)
        for here, there, pixel, table, found in (
            (one, other, ahead, _TABLE[bits], after),
            (other, one, ahead + stride, _TABLE[swapped(bits)], before),
        ):
            bound = table.T
            value = np.take_along_axis(there.depth, np.maximum(bound, 0), 0) - here.depth
            found[:, pixel] = np.where(bound >= 0, value, np.nan)
        before = -before
        smaller = np.where(np.abs(before) < np.abs(after), before, after)
        both = np.where(before * after > 0, smaller, 0.0)
        side = np.array([1, -1, 1, -1])[:, None]  # sign of a rise that makes thinner
        inward, outward = np.maximum(side * before, 0), np.minimum(side * after, 0)
        only = side * np.where(np.isnan(before), outward, inward)
        slope = np.where(np.isnan(before) | np.isnan(after), np.nan_to_num(only), both)
        slopes.append(slope.clip(-columns.tolerance, columns.tolerance))
    return np.stack(slopes)


def _adjacent(shape: tuple[int, int]) -> list[tuple[int, np.ndarray]]:
    """Return flat indices of the pixels with a neighbor, and the step to it, down and across."""
    index = np.arange(shape[0] * shape[1]).reshape(shape)
    return [(shape[1], index[:-1].ravel()), (1, index[:, :-1].ravel())]


def _neighbors(
    mask: np.ndarray, row: np.ndarray, column: np.ndarray, shape: tuple[int, int]
) -> _Neighbors:
    """Find the pixels of the layers around the pixels (row, column) of an image of a shape.

    Where none of the four is inside the mask, the first one is replaced by the nearest that is.
    """
    height, width = mask.shape
    y = (row + 0.5) * height / shape[0] - 0.5
    x = (column + 0.5) * width / shape[1] - 0.5
    down, right = np.array(list(np.ndindex(2, 2))).T[..., None]
    rows = (np.floor(y).astype(np.int64) + down).clip(0, height - 1)
    columns = (np.floor(x).astype(np.int64) + right).clip(0, width - 1)
    weight = np.maximum((1 - np.abs(y - rows)) * (1 - np.abs(x - columns)), 1e-6)
    weight = np.where(mask[rows, columns], weight, 0.0)
    lost = np.flatnonzero(~weight.any(0))
    if len(lost):
        nearest = np.asarray(
            distance_transform_edt(~mask, return_distances=False, return_indices=True)
        )
        rows[0, lost], columns[0, lost] = nearest[:, rows[0, lost], columns[0, lost]]
        weight[0, lost] = 1.0
    offset = np.stack([y - rows, x - columns]).clip(-1, 1)
    return _Neighbors(rows * width + columns, weight, offset)


def _likeness(
    image: np.ndarray, shape: tuple[int, int], pixel: np.ndarray, color: np.ndarray
) -> np.ndarray:
    """Return how similar the image is at pixels of the layers, [4, P], to colors, [P, 3]."""
    small = Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BOX)
    colors = np.asarray(small, np.float32)[..., :3].reshape(-1, 3)
    difference = np.square(colors[pixel] - color).sum(-1)
    return np.exp(-0.5 * difference / SIMILAR**2) + 1e-3


def _thicken(depth: np.ndarray, thinnest: float) -> None:
    """Make all intervals at least so thick, and the space between two at least half as wide."""
    for entry in (0, 2):
        lack = np.maximum(thinnest - (depth[entry + 1] - depth[entry]), 0) / 2
        depth[entry] -= lack
        depth[entry + 1] += lack
    depth[2:] += np.maximum(depth[1] + thinnest / 2 - depth[2], 0)
