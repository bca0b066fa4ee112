"""Reference mesh rasterizer in plain NumPy; `recon.rasterizers.mesh` is tested against it.

Triangles stay in homogeneous image coordinates. With the corners' (X, Y, Z) as the columns of a
matrix A, a pixel center (x, y) has barycentric coordinates b with Σ b_i corner_i = z (x, y, 1), so
b / z = A⁻¹ (x, y, 1) is affine in the pixel and its sum is 1 / z. A triangle that crosses the
camera plane needs no clipping: what lies behind the camera has 1 / z < 0.
Source: Olano and Greer, "Triangle Scan Conversion using 2D Homogeneous Coordinates", 1997.

Letters: P points, F triangles, H × W pixels; pixel centers are at +0.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

CANDIDATES_AT_ONCE = 2**21  # pixel-triangle pairs; bounds the memory, not the result
NEAR = 0.01  # near plane in world units
DEGENERATE_VOLUME = 1e-30


class Fragments(NamedTuple):
    """The nearest triangle at each pixel center.

    Attributes:
        face: triangle index, −1 where there is none, int64, [H, W].
        barycentric: perspective-correct barycentric coordinates, 0 where there is no triangle,
            [H, W, 3].
        depth: distance along the optical axis, infinite where there is no triangle, [H, W].
    """

    face: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray

    def interpolate(self, faces: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Interpolate point attributes [P, C] at each pixel, [H, W, C]; 0 without a triangle."""
        return np.einsum("hwk,hwkc->hwc", self.barycentric, values[faces[self.face]])


def rasterize_mesh_reference(
    points: np.ndarray, faces: np.ndarray, height: int, width: int
) -> Fragments:
    """Rasterize triangles like `recon.rasterizers.mesh.rasterize_mesh`, in float64."""
    points = np.asarray(points, np.float64)
    inverse_depth = np.zeros(height * width)
    face = np.full(height * width, -1)
    barycentric = np.zeros((height * width, 3))
    rows, valid = _inverse_corners(points[faces])
    for owner, x, y in _candidates(points[faces], valid, height, width):
        weights = np.einsum("mij,mj->mi", rows[owner], np.stack([x + 0.5, y + 0.5, x * 0 + 1], 1))
        inverse = weights.sum(axis=1)
        pixel = y * width + x
        seen = (weights >= 0).all(axis=1) & (inverse > inverse_depth[pixel])
        seen = np.flatnonzero(seen & (inverse <= 1 / NEAR))[::-1]
        order = seen[np.argsort(inverse[seen], kind="stable")]  # ends with the nearest, first face
        inverse_depth[pixel[order]] = inverse[order]
        face[pixel[order]] = owner[order]
        barycentric[pixel[order]] = weights[order] / inverse[order, None]
    with np.errstate(divide="ignore"):
        return Fragments(
            face.reshape(height, width),
            barycentric.reshape(height, width, 3),
            (1 / inverse_depth).reshape(height, width),
        )


def _inverse_corners(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A⁻¹ of triangles [F, 3 corners, XYZ] as [F, 3, 3], and which are not degenerate, [F]."""
    adjugate = np.cross(np.roll(corners, -1, axis=1), np.roll(corners, -2, axis=1))
    volume = np.einsum("fj,fj->f", corners[:, 0], adjugate[:, 0])
    valid = np.isfinite(corners).all(axis=(1, 2)) & (np.abs(volume) > DEGENERATE_VOLUME)
    return adjugate / np.where(valid, volume, 1.0)[:, None, None], valid


def _candidates(
    corners: np.ndarray, valid: np.ndarray, height: int, width: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield faces, columns and rows of the pixels in the boxes around triangles, in batches."""
    in_front = corners[..., 2] >= NEAR
    crossing = (in_front.any(axis=1) & ~in_front.all(axis=1))[:, None]
    pixels = corners[..., :2] / np.where(in_front, corners[..., 2], 1.0)[..., None]
    pixels = np.where(np.isfinite(pixels), pixels, 0.0)
    low = np.clip(np.ceil(pixels.min(axis=1) - 0.5), 0, (width, height)).astype(int)
    high = np.clip(np.floor(pixels.max(axis=1) - 0.5), -1, (width - 1, height - 1)).astype(int)
    low = np.where(crossing, 0, low)
    extent = np.where(crossing, (width, height), np.maximum(high - low + 1, 0))
    count = np.where(valid & in_front.any(axis=1), extent.prod(axis=1), 0)
    limits = np.arange(CANDIDATES_AT_ONCE, count.sum(), CANDIDATES_AT_ONCE)
    for some in np.split(np.arange(len(corners)), np.searchsorted(np.cumsum(count), limits)):
        owner = np.repeat(some, count[some])
        start = np.repeat(np.cumsum(count[some]) - count[some], count[some])
        row, column = np.divmod(np.arange(len(owner)) - start, np.maximum(extent[owner, 0], 1))
        yield owner, low[owner, 0] + column, low[owner, 1] + row
