"""Reference of `NativeMesh.crossings` in plain NumPy; the kernel is tested against it.

It intersects each ray with each triangle in world coordinates, while the kernel projects triangles
along the rays. Source: Möller and Trumbore, "Fast, Minimum Storage Ray/Triangle Intersection",
Journal of Graphics Tools 2(1), 1997.

Letters: N vertices, M triangles, L crossings, H × W pixels; pixel centers are at +0.5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recon.rasterizers.mesh_reference import NEAR


class ReferenceCrossings(NamedTuple):
    """All crossings of triangles with the rays through pixel centers, as the kernel orders them.

    Attributes:
        pixel: row · W + column, ascending, [L].
        triangle: index of the triangle, [L].
        depth: distance along the optical axis, ascending in each pixel, [L].
        winding: 1 where the ray meets the triangle's front, −1 where it meets its back, [L].
        barycentric: barycentric coordinates in the triangle, [L, 3].
    """

    pixel: np.ndarray
    triangle: np.ndarray
    depth: np.ndarray
    winding: np.ndarray
    barycentric: np.ndarray


def mesh_crossings_reference(
    vertices: np.ndarray, triangles: np.ndarray, T_image_world: np.ndarray, height: int, width: int
) -> ReferenceCrossings:
    """Find the crossings in float64; a ray through a common edge crosses both of its triangles.

    Args:
        vertices: world coordinates, [N, 3].
        triangles: vertex indices, [M, 3].
        T_image_world: `image_from_world` of a camera, [3, 4].
        height: image height H in pixels.
        width: image width W in pixels.
    """
    origin, rays = _rays(np.asarray(T_image_world, np.float64), height, width)
    corners = np.asarray(vertices, np.float64)[triangles]
    found = [_crossed(origin, rays, triangle) for triangle in corners]
    counts = [len(pixel) for pixel, *_ in found]
    triangle = np.repeat(np.arange(len(corners)), counts)
    empty = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros((0, 3))
    pixel, depth, winding, barycentric = map(np.concatenate, zip(empty, *found, strict=True))
    order = np.lexsort((triangle, -winding, depth, pixel))
    arrays = pixel, triangle, depth, winding, barycentric
    return ReferenceCrossings(*(array[order] for array in arrays))


def _rays(T_image_world: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the camera center [3] and rays of depth 1 through the pixel centers, [H · W, 3]."""
    T_world_image = np.linalg.inv(T_image_world[:, :3])
    rows, columns = np.mgrid[:height, :width].reshape(2, -1) + 0.5
    image = np.stack([columns, rows, np.ones(height * width)], axis=1)
    return -T_world_image @ T_image_world[:, 3], image @ T_world_image.T


def _crossed(
    origin: np.ndarray, rays: np.ndarray, corners: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return pixels, depths, windings and barycentric coordinates of a triangle's crossings."""
    first, edges = corners[0], corners[1:] - corners[0]
    across = np.cross(rays, edges[1])
    facing = across @ edges[0]  # below 0 where the ray meets the back
    with np.errstate(divide="ignore", invalid="ignore"):
        u = across @ (origin - first) / facing
        turned = np.cross(origin - first, edges[0])
        v = rays @ turned / facing
        depth = np.broadcast_to(turned @ edges[1], len(rays)) / facing
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (depth >= NEAR) & np.isfinite(depth)
    pixel = np.flatnonzero(hit)
    u, v = u[pixel], v[pixel]
    winding = np.where(facing[pixel] > 0, 1, -1)
    return pixel, depth[pixel], winding, np.stack([1 - u - v, u, v], axis=1)
