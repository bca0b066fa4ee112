"""A z-buffer for triangles in plain numpy: which triangle covers each pixel, and where in it.

Made for tens of thousands of small triangles: baking textures (in texture space) and looking at
meshes through our cameras. Letters: P points, F triangles, H × W pixels. Pixel centres are at +0.5.
What it does not know: colours, light.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from recon.grid.cameras import Camera

CANDIDATES_AT_ONCE = 2**21  # pixel-triangle pairs; bounds the memory, not the result
NEAR = 0.01


class Fragments(NamedTuple):
    """What each pixel sees.

    Attributes:
        face: index of the nearest triangle, −1 where there is none, [H, W].
        barycentric: weights of the triangle's corners, 0 where there is none, [H, W, 3].
        depth: distance along the optical axis, infinite where there is nothing, [H, W].
    """

    face: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray

    def interpolate(self, faces: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Values of the P points, [P, C], at each pixel, [H, W, C]; 0 where there is nothing."""
        return np.einsum("hwk,hwkc->hwc", self.barycentric, values[faces[self.face]])


def draw_triangles(
    points: np.ndarray, faces: np.ndarray, height: int, width: int, depth: np.ndarray | None = None
) -> Fragments:
    """Finds the nearest triangle at every pixel centre; both sides are drawn.

    Args:
        points: positions in pixels, x to the right, y down, [P, 2].
        faces: corners of the triangles, [F, 3].
        height: H.
        width: W.
        depth: along the optical axis, positive, [P]; if None, nothing is in perspective.
    """
    inverse_depth = np.ones(len(points)) if depth is None else 1 / depth
    nearest = np.zeros(height * width)  # inverse depth
    face = np.full(height * width, -1)
    barycentric = np.zeros((height * width, 3))
    for owner, x, y in _candidates(points[faces], height, width):
        weights = _barycentric(points[faces[owner]], np.stack([x, y], axis=1) + 0.5)
        weights *= inverse_depth[faces[owner]]
        inverse = weights.sum(axis=1)
        pixel = y * width + x
        seen = (weights >= 0).all(axis=1) & (inverse > nearest[pixel])
        order = np.flatnonzero(seen)[np.argsort(inverse[seen], kind="stable")]  # the last one stays
        nearest[pixel[order]] = inverse[order]
        face[pixel[order]] = owner[order]
        barycentric[pixel[order]] = weights[order] / inverse[order, None]
    with np.errstate(divide="ignore"):
        return Fragments(
            face.reshape(height, width),
            barycentric.reshape(height, width, 3),
            (1 / nearest).reshape(height, width),
        )


def _candidates(
    corners: np.ndarray, height: int, width: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pixels in the boxes around triangles [F, 3, 2]: owners, columns and rows, some at a time."""
    low = np.clip(np.ceil(corners.min(axis=1) - 0.5), 0, (width, height)).astype(int)
    high = np.clip(np.floor(corners.max(axis=1) - 0.5), -1, (width - 1, height - 1)).astype(int)
    extent = np.maximum(high - low + 1, 0)
    count = extent.prod(axis=1)
    total = np.cumsum(count)
    limits = np.arange(CANDIDATES_AT_ONCE, count.sum(), CANDIDATES_AT_ONCE)
    for some in np.split(np.arange(len(corners)), np.searchsorted(total, limits)):
        owner = np.repeat(some, count[some])
        start = np.repeat(np.cumsum(count[some]) - count[some], count[some])
        row, column = np.divmod(np.arange(len(owner)) - start, np.maximum(extent[owner, 0], 1))
        yield owner, low[owner, 0] + column, low[owner, 1] + row


def look_at_mesh(vertices: np.ndarray, faces: np.ndarray, camera: Camera) -> Fragments:
    """What a camera sees of a mesh; triangles that reach behind the camera are left out.

    Args:
        vertices: in the world, [P, 3].
        faces: [F, 3].
        camera: its image size is that of the result.
    """
    pixels, depth = project_points(vertices, camera)
    in_front = (depth[faces] > NEAR).all(axis=1)
    fragments = draw_triangles(
        pixels, faces[in_front], camera.height, camera.width, np.maximum(depth, NEAR)
    )
    index = np.append(np.flatnonzero(in_front), -1)  # −1 stays −1
    return fragments._replace(face=index[fragments.face])


def project_points(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [P, 2] and depths along the optical axis [P] of points in the world, [P, 3]."""
    pixels, depth = camera.project(points)
    return np.nan_to_num(pixels, nan=-1e6), depth


def _barycentric(corners: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Weights [M, 3] of corners [M, 3, 2] at points [M, 2]; negative outside, −1 for slivers."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = _cross(b - a, c - a)
    weights = np.stack(
        [_cross(b - at, c - at), _cross(c - at, a - at), _cross(a - at, b - at)], axis=1
    )
    flat = np.abs(area) < 1e-12
    return np.where(flat[:, None], -1.0, weights / np.where(flat, 1.0, area)[:, None])


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
