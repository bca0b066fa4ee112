"""Smoothing of the layers of a clip over time, along the motion of the image.

A network that sees single frames lets hidden surfaces flicker. Each pixel is followed to the frames
around by block matching, and its layers are replaced by a local linear fit over time, which keeps
steady motion. Letters: F frames, h × w pixels of the layers, H × W of the images, P pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter

from generation.surface_layers import BACK, FIRST_EXIT, FRONT, LAST_ENTRY, SurfaceLayers

REACH = 1  # frames before and after
TIME_SIGMA = 1.2  # of the weights over time, in frames
HALF = 2  # blocks are matched at the size of the layers divided by this, first at half of that
COARSE_PX, FINE_PX = 3, 1  # largest displacement at the two sizes
BLOCK_PX = 3
LIKE = 0.04  # mean difference of matching blocks, as a standard deviation, of colors in [0, 1]
SMALL_MOTION = 0.002  # cost of a displacement by a pixel, so that flat areas stay
DETAIL_PX = 4.0  # standard deviation of the filter of corrections, which keeps smaller shapes
NEAR = 0.08  # difference in depth of a surface in two frames, as a standard deviation


def smoothed(layers: Sequence[SurfaceLayers], images: np.ndarray) -> list[SurfaceLayers]:
    """Smooth depths and hidden colors over time; masks and gaps stay.

    Args:
        layers: layers of the F frames, of one size.
        images: RGBA, sRGB with straight alpha, uint8, [F, H, W, 4].
    """
    height, width = layers[0].mask.shape
    half = -(-height // HALF), -(-width // HALF)
    features = np.stack([_features(image, half) for image in images])
    return [_smoothed_frame(layers, features, frame) for frame in range(len(layers))]


def _smoothed_frame(
    layers: Sequence[SurfaceLayers], features: np.ndarray, frame: int
) -> SurfaceLayers:
    own = layers[frame]
    row, column = np.nonzero(own.mask)
    sums = np.zeros((3, 4, len(row)))  # of weight · time^n
    depths, colors = np.zeros((2, 4, len(row))), np.zeros((2, 4, len(row), 3))
    for other in range(max(0, frame - REACH), min(len(layers), frame + REACH + 1)):
        time = other - frame
        shift, difference = displacements(features[frame], features[other])
        block = row // HALF, column // HALF
        there = (
            (row + HALF * shift[0][block]).clip(0, own.mask.shape[0] - 1),
            (column + HALF * shift[1][block]).clip(0, own.mask.shape[1] - 1),
        )
        depth, color = layers[other].depth[:, *there], layers[other].color[:, *there]
        weight = np.exp(-0.5 * (difference[block] / LIKE) ** 2 - 0.5 * (time / TIME_SIGMA) ** 2)
        apart = np.abs(depth - own.depth[:, row, column])
        weights = weight * layers[other].mask[there] * np.exp(-0.5 * (apart / NEAR) ** 2)
        same = layers[other].gap[there] == own.gap[row, column]
        weights[[FIRST_EXIT, LAST_ENTRY]] *= same
        for power in range(3):
            sums[power] += weights * time**power
        for power in range(2):
            depths[power] += weights * depth * time**power
            colors[power] += (weights * time**power)[..., None] * color
    correction = np.zeros((4, *own.mask.shape, 4), np.float32)  # of depth and color
    correction[:, row, column, 0] = _at_present(sums, depths) - own.depth[:, row, column]
    correction[:, row, column, 1:] = (
        _at_present(sums[..., None], colors) - own.color[:, row, column]
    )
    known = np.stack([own.mask, own.gap & own.mask, own.gap & own.mask, own.mask])
    correction = _smooth(correction, known)
    new_depth = np.sort(own.depth + correction[..., 0], axis=0) * own.mask
    new_color = own.color.copy()
    new_color[1:] = np.rint((own.color + correction[..., 1:])[1:].clip(0, 255))
    whole = own.mask & ~own.gap
    new_depth[FIRST_EXIT : LAST_ENTRY + 1, whole] = new_depth[[FRONT, BACK]][:, whole].mean(0)
    return SurfaceLayers(new_depth, new_color, own.mask, own.gap)


def _smooth(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Smooth values [4, h, w, C] over the pixels where they are known, [4, h, w]; 0 elsewhere."""
    sigma = (0, DETAIL_PX, DETAIL_PX)
    weight = gaussian_filter(known.astype(np.float32), sigma, truncate=2.0)[..., None]
    total = gaussian_filter(values * known[..., None], (*sigma, 0), truncate=2.0)
    return np.where(known[..., None], total / np.maximum(weight, 1e-6), 0.0)


def _at_present(sums: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the value at time 0 of a weighted linear fit."""
    determinant = sums[0] * sums[2] - sums[1] ** 2
    mean = values[0] / sums[0]
    line = (sums[2] * values[0] - sums[1] * values[1]) / np.maximum(determinant, 1e-9)
    return np.where(determinant > 0.05 * sums[0] ** 2, line, mean)


def displacements(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find for each pixel of an image the pixel of another image with the most similar block.

    Args:
        one: features in [0, 1], float32, [h, w, C].
        other: features of the same shape.

    Returns:
        Rows and columns to the pixel of the other image, inside of it, [2, h, w]; mean difference
        of the blocks, [h, w].
    """
    height, width = one.shape[:2]
    small, other_small = _halved(one), _halved(other)
    shift, _ = _best(small, other_small, np.zeros((2, *small.shape[:2]), np.int64), COARSE_PX)
    large = 2 * shift.repeat(2, 1).repeat(2, 2)[:, :height, :width]
    return _best(one, other, large, FINE_PX)


def _best(
    one: np.ndarray, other: np.ndarray, shift: np.ndarray, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Search displacements around given ones."""
    height, width = one.shape[:2]
    row, column = np.mgrid[:height, :width]
    best, found = np.full((height, width), np.inf, np.float32), np.zeros_like(shift)
    for down, right in np.ndindex(2 * reach + 1, 2 * reach + 1):
        there = (
            (row + shift[0] + down - reach).clip(0, height - 1),
            (column + shift[1] + right - reach).clip(0, width - 1),
        )
        difference = np.abs(one - other[there]).mean(-1)
        motion = np.hypot(there[0] - row, there[1] - column)
        cost = uniform_filter(difference, BLOCK_PX) + SMALL_MOTION * motion
        better = cost < best
        best[better] = cost[better]
        found[0][better], found[1][better] = (there[0] - row)[better], (there[1] - column)[better]
    return found, best


def _features(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return premultiplied colors and alpha at another size, in [0, 1], float32, [*shape, 4]."""
    small = Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BOX)
    features = np.asarray(small, np.float32) / 255
    features[..., :3] *= features[..., 3:]
    return features


def _halved(image: np.ndarray) -> np.ndarray:
    """Average blocks of 2 × 2 pixels; a part of one at the end is filled up by repetition."""
    padded = np.pad(image, [*((0, side % 2) for side in image.shape[:2]), (0, 0)], mode="edge")
    rows, columns = padded.shape[0] // 2, padded.shape[1] // 2
    return padded.reshape(rows, 2, columns, 2, -1).mean((1, 3))
