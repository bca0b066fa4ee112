"""Rasterization of triangle meshes: triangle, barycentric coordinates and depth of each pixel.

Used in image space (visibility from a camera) and in texture space (baking). The compiled kernel is
used if it was built, else the reference in NumPy (`recon.rasterizers.mesh_reference`).

Letters: P points, F triangles, H × W pixels; pixel centers are at +0.5.
"""

from __future__ import annotations

import numpy as np

from recon.grid.cameras import Camera
from recon.native.library import built
from recon.native.mesh import NativeMesh, image_from_world
from recon.rasterizers.mesh_reference import Fragments, rasterize_mesh_reference

_IDENTITY = np.eye(3, 4)


def rasterize_mesh(points: np.ndarray, faces: np.ndarray, height: int, width: int) -> Fragments:
    """Find the nearest triangle at each pixel center; both sides of triangles are drawn.

    Triangles may cross the camera plane; their part behind it is not drawn. Of two triangles at
    the same depth the first one wins. The kernel computes in float32, so pixel centers within
    about 1e-6 of an edge can differ from the reference.

    Args:
        points: homogeneous image coordinates, [P, 3]: a point (X, Y, Z) lies at pixel
            (X / Z, Y / Z) and has depth Z. `camera_points` and `plane_points` make them.
        faces: point indices of the triangles' corners, [F, 3].
        height: image height H in pixels.
        width: image width W in pixels.
    """
    if not built():
        return rasterize_mesh_reference(points, faces, height, width)
    seen = NativeMesh(points, faces).visible(_IDENTITY, height, width)
    depth = np.where(seen.triangle < 0, np.inf, seen.depth)
    return Fragments(seen.triangle.astype(np.int64), seen.weights.astype(np.float64), depth)


def camera_points(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Project world points [P, 3] to homogeneous image coordinates of a camera, [P, 3]."""
    T_image_world = image_from_world(camera)
    return points @ T_image_world[:, :3].T + T_image_world[:, 3]


def plane_points(points: np.ndarray) -> np.ndarray:
    """Lift points of a plane [P, 2], in pixels, to homogeneous coordinates at depth 1, [P, 3]."""
    return np.column_stack([points, np.ones(len(points))])
