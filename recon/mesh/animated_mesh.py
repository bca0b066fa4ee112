"""A scene as one mesh of fixed topology whose vertices move, with its colours.

    canonical Gaussians ──▶ mesh ──bound to the Gaussians──▶ vertices at each time
                              └──photographed from all around──▶ texture or vertex colours

Letters: T frames, P vertices, F triangles, S texels along a side. Frame: world, +Z up.
What it does not know: files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from recon.mesh.extraction import Mesh
from recon.mesh.skinning import bind_points, move_points
from recon.mesh.texture import Photograph, bake_texture, photograph, surface_colors, unwrap
from recon.mesh.viewpoints import surrounding_cameras
from recon.scene import Scene

FITTED_VIEWS = 16  # photographs from fitted cameras, at most
SURROUNDING_VIEWS = 16
SIZE = 256  # of their pictures where the scene has no cameras to go by
SURROUNDING_TRUST = 0.02  # these only colour what no fitted camera sees


class AnimatedMesh(NamedTuple):
    """One mesh at T times.

    Attributes:
        positions: world units, [T, P, 3].
        normals: unit, outwards, [T, P, 3].
        faces: corners, counter-clockwise from outside, [F, 3].
        vertex_colors: sRGB in [0, 1], [P, 3]; None with a texture.
        uv: places in the texture, v down, [P, 2]; None with vertex colours.
        texture: sRGB, uint8, [S, S, 3]; None with vertex colours.
    """

    positions: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    vertex_colors: np.ndarray | None = None
    uv: np.ndarray | None = None
    texture: np.ndarray | None = None


def textured_mesh(scene: Scene, mesh: Mesh, times: np.ndarray, size: int) -> AnimatedMesh:
    """The scene's mesh at some times, with a baked texture.

    Args:
        scene: gives motion and colours.
        mesh: made from the scene's canonical Gaussians.
        times: in [0, 1], [T].
        size: S.
    """
    unwrapped = unwrap(mesh, size)
    texture = bake_texture(mesh, unwrapped, _photographs(scene, mesh), size)
    positions, normals = _frames(scene, mesh, times)
    return AnimatedMesh(
        positions[:, unwrapped.origin],
        normals[:, unwrapped.origin],
        unwrapped.faces,
        uv=unwrapped.uv,
        texture=texture,
    )


def vertex_colored_mesh(scene: Scene, mesh: Mesh, times: np.ndarray) -> AnimatedMesh:
    """The scene's mesh with a colour at each vertex; arguments as for `textured_mesh`."""
    colors = surface_colors(mesh.vertices, mesh.normals(), _photographs(scene, mesh))
    return AnimatedMesh(*_frames(scene, mesh, times), mesh.faces, vertex_colors=colors)


def _frames(scene: Scene, mesh: Mesh, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    binding = bind_points(mesh.vertices, scene.gaussians)
    with torch.no_grad():
        moved = [
            move_points(binding, scene.gaussians, scene.at(float(time))).double().cpu().numpy()
            for time in times
        ]
    return np.stack(moved), np.stack([mesh.normals(vertices) for vertices in moved])


def _photographs(scene: Scene, mesh: Mesh) -> list[Photograph]:
    step = max(1, -(-len(scene.cameras) // FITTED_VIEWS))
    fitted = scene.cameras[::step]
    size = max((camera.height for camera in fitted), default=SIZE)
    around = surrounding_cameras(scene.gaussians, SURROUNDING_VIEWS, size)
    trust = [1.0] * len(fitted) + [SURROUNDING_TRUST] * len(around)
    return photograph(scene.gaussians, mesh, [*fitted, *around], trust)
