"""Unlit rendering of meshes: with their texture, the colors of their vertices, or gray."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recon.grid.cameras import Camera
from recon.mesh.animated_mesh import AnimatedMesh
from recon.mesh.texture import sample_texture
from recon.rasterizers.mesh import camera_points, rasterize_mesh

SUPERSAMPLING = 2  # rasterized meshes have hard edges, Gaussians soft ones


def render_mesh(
    mesh: AnimatedMesh, frame: int, camera: Camera, background: Sequence[float]
) -> np.ndarray:
    """Render one frame of a mesh.

    Args:
        mesh: the mesh.
        frame: index of the frame.
        camera: any camera; it determines the height and width of the image.
        background: sRGB in [0, 1].

    Returns:
        sRGB in [0, 1], [H, W, 3].
    """
    scale = SUPERSAMPLING
    large = camera.resized(camera.height * scale, camera.width * scale)
    points = camera_points(mesh.positions[frame], large)
    points /= np.median(np.abs(points[:, 2]))  # a common depth, far beyond the near plane
    fragments = rasterize_mesh(points, mesh.faces, large.height, large.width)
    if mesh.texture is not None and mesh.uv is not None:
        colors = sample_texture(mesh.texture, fragments.interpolate(mesh.faces, mesh.uv)) / 255
    elif mesh.vertex_colors is not None:
        colors = fragments.interpolate(mesh.faces, mesh.vertex_colors)
    else:
        colors = np.full((*fragments.face.shape, 3), 0.5)
    colors = np.where((fragments.face >= 0)[..., None], colors, background)
    return colors.reshape(camera.height, scale, camera.width, scale, 3).mean(axis=(1, 3))
