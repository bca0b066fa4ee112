"""Columns: the solid intervals along the rays of an image, from surface layers of another size.

Letters: h × w pixels of the layers, H × W of the image, P pixels of the object.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from generation.lift.cells import matched_bounds
from generation.surface_layers import BACK, FIRST_EXIT, FRONT, LAST_ENTRY, SurfaceLayers
from recon.grid import Camera

STEEPEST = 3.0  # depth between neighboring pixels over their distance, up to which they connect
THINNEST = 0.5  # thickness of an interval, in pixels of the image


class Columns(NamedTuple):
    """Intervals of the pixels of an image.

    Attributes:
        count: number of intervals, 0 to 2, uint8, [H, W].
        depth: entry and exit of the first, entry and exit of the second interval, ascending;
            0 where there is none, float32, [4, H, W].
        color: sRGB at these four, uint8, [4, H, W, 3].
        tolerance: distance in depth up to which the intervals of neighbors overlap.
    """

    count: np.ndarray
    depth: np.ndarray
    color: np.ndarray
    tolerance: float


def columns_of(
    layers: SurfaceLayers, solid: np.ndarray, image: np.ndarray, camera: Camera
) -> Columns:
    """Interpolate layers at the pixels of an image.

    Depths and colors are interpolated between the nearest four pixels of the layers, as far as
    their intervals overlap with those of the nearest one.

    Args:
        layers: surface layers that are not empty.
        solid: pixels of the object, bool, [H, W].
        image: RGBA, uint8, [H, W, 4].
        camera: camera of the image.
    """
    coarse = _coarse_columns(layers, camera)
    row, column = np.nonzero(solid)
    neighbors, weights = _neighbors(layers.mask, row, column, solid.shape)
    nearest = weights.argmax(0)
    pick = np.arange(len(row))
    reference = _at(coarse, neighbors[nearest, pick])
    depth, color = np.zeros((4, len(row))), np.zeros((4, len(row), 3))
    total = np.zeros((4, len(row)))
    for k in range(4):
        other = _at(coarse, neighbors[k])
        bounds = _matches(reference, other)
        weight = np.where(bounds >= 0, weights[k], 0.0)
        weight[:, nearest == k] = weights[k, nearest == k]
        bounds = np.where(bounds < 0, 0, bounds)
        total += weight
        depth += weight * np.take_along_axis(other.depth, bounds, 0)
        color += weight[..., None] * np.take_along_axis(other.color, bounds[..., None], 0)
    depth /= total
    color /= total[..., None]
    _thicken(depth, THINNEST * float(np.mean(depth[0])) / camera.fl_x)
    columns = Columns(
        np.zeros(solid.shape, np.uint8),
        np.zeros((4, *solid.shape), np.float32),
        np.zeros((4, *solid.shape, 3), np.uint8),
        coarse.tolerance,
    )
    columns.count[row, column] = reference.count
    columns.depth[:, row, column] = depth
    columns.color[:, row, column] = np.rint(color)
    return columns


def overlaps(one: Columns, other: Columns, step: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Return which intervals overlap, as bits for `cells.matched_bounds`.

    Args:
        one: columns of any shape.
        other: columns of the same shape.
        step: rows and columns from a pixel of `one` to that of `other`; pixels without a partner
            are left out.
    """
    if any(step):
        rows, cols = one.count.shape
        here = (..., slice(0, rows - step[0]), slice(0, cols - step[1]))
        there = (..., slice(step[0], None), slice(step[1], None))
        return overlaps(
            Columns(one.count[here], one.depth[here], one.color, one.tolerance),
            Columns(other.count[there], other.depth[there], other.color, other.tolerance),
        )
    near = np.zeros((2, 2, *one.count.shape), np.bool_)
    for i, j in np.ndindex(2, 2):
        entry = np.maximum(one.depth[2 * i], other.depth[2 * j])
        exit_ = np.minimum(one.depth[2 * i + 1], other.depth[2 * j + 1])
        near[i, j] = (entry - exit_ <= one.tolerance) & (one.count > i) & (other.count > j)
    crossed = near[0, 1] & near[1, 0]
    near[0, 0] |= crossed
    near[1, 1] |= crossed
    parallel = near[0, 0] & near[1, 1]  # then the space between continues, too
    near[0, 1] &= ~parallel
    near[1, 0] &= ~parallel
    return (near[0, 0] + 2 * near[0, 1] + 4 * near[1, 0] + 8 * near[1, 1]).astype(np.int64)


def _coarse_columns(layers: SurfaceLayers, camera: Camera) -> Columns:
    """Return the columns of the layers themselves, flat: one row of pixels."""
    gap = layers.gap & layers.mask
    first = np.where(gap, FIRST_EXIT, BACK)[None]
    index = np.concatenate(
        [np.full_like(first, FRONT), first, np.full_like(first, LAST_ENTRY), first * 0 + BACK]
    )
    depth = np.take_along_axis(layers.depth, index, 0).reshape(4, -1)
    color = np.take_along_axis(layers.color, index[..., None], 0).reshape(4, -1, 3)
    pixel = float(layers.depth[FRONT][layers.mask].mean()) / camera.fl_x
    pixel *= camera.width / layers.mask.shape[1]
    count = layers.mask.astype(np.uint8) + gap
    return Columns(count.ravel(), depth, color, STEEPEST * pixel)


def _at(columns: Columns, pixel: np.ndarray) -> Columns:
    return Columns(
        columns.count[pixel], columns.depth[:, pixel], columns.color[:, pixel], columns.tolerance
    )


def _neighbors(
    mask: np.ndarray, row: np.ndarray, column: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return four pixels of the layers around each pixel of the image, and bilinear weights.

    Where none of them is inside the mask, the first one is replaced by the nearest that is.

    Returns:
        Flat pixel indices, [4, P]; weights, 0 outside of the mask, [4, P].
    """
    height, width = mask.shape
    y = (row + 0.5) * height / shape[0] - 0.5
    x = (column + 0.5) * width / shape[1] - 0.5
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    neighbors = np.zeros((4, len(row)), np.int64)
    weights = np.zeros((4, len(row)))
    for k, (down, right) in enumerate(np.ndindex(2, 2)):
        r, c = (top + down).clip(0, height - 1), (left + right).clip(0, width - 1)
        neighbors[k] = r * width + c
        weight = (1 - np.abs(y - top - down)) * (1 - np.abs(x - left - right))
        weights[k] = np.where(mask[r, c], np.maximum(weight, 1e-6), 0.0)
    lost = np.flatnonzero(weights.sum(0) == 0)
    if len(lost):
        _, (r, c) = distance_transform_edt(~mask, return_indices=True)
        at = (
            np.rint(y[lost]).astype(np.int64).clip(0, height - 1),
            np.rint(x[lost]).astype(np.int64).clip(0, width - 1),
        )
        neighbors[0, lost] = r[at] * width + c[at]
        weights[0, lost] = 1.0
    return neighbors, weights


def _matches(one: Columns, other: Columns) -> np.ndarray:
    """Return the bound of `other` that continues each bound of `one`, −1 for none, [4, P]."""
    table = np.full((16, 4), -1)
    for bits in range(16):
        for a, b in matched_bounds(bits):
            table[bits, a] = b
    return table[overlaps(one, other)].T


def _thicken(depth: np.ndarray, thinnest: float) -> None:
    """Make all intervals at least so thick, and the space between two at least half as wide."""
    for entry in (0, 2):
        lack = np.maximum(thinnest - (depth[entry + 1] - depth[entry]), 0) / 2
        depth[entry] -= lack
        depth[entry + 1] += lack
    shift = np.maximum(depth[1] + thinnest / 2 - depth[2], 0)
    depth[2:] += shift
