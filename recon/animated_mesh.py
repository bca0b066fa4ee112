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

from recon.gaussians import Gaussians
from recon.mesh import Mesh, extract_mesh
from recon.scene import Scene
from recon.skinning import bind_points, move_points
from recon.texture import Photograph, bake_texture, photograph, surface_colors, unwrap
from recon.viewpoints import surrounding_cameras

FITTED_VIEWS = 24  # photographs from fitted cameras, at most
SURROUNDING_VIEWS = 24
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


def textured_mesh(scene: Scene, times: np.ndarray, faces: int, size: int) -> AnimatedMesh:
    """The scene's mesh with a baked texture.

    Args:
        scene: what to make a mesh of.
        times: in [0, 1], [T].
        faces: triangles, at most.
        size: S.

    Raises:
        SceneError: the Gaussians enclose no surface.
    """
    mesh = extract_mesh(scene.gaussians, faces)
    unwrapped = unwrap(mesh)
    texture = bake_texture(mesh, unwrapped, _photographs(scene, mesh), size)
    positions, normals = _frames(scene, mesh, times)
    return AnimatedMesh(
        positions[:, unwrapped.origin],
        normals[:, unwrapped.origin],
        unwrapped.faces,
        uv=unwrapped.uv,
        texture=texture,
    )


def vertex_colored_mesh(scene: Scene, times: np.ndarray, faces: int) -> AnimatedMesh:
    """The scene's mesh with a colour at each vertex; arguments as for `textured_mesh`."""
    mesh = extract_mesh(scene.gaussians, faces)
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
    gaussians: Gaussians = scene.gaussians
    step = -(-len(scene.cameras) // FITTED_VIEWS)
    fitted = list(scene.cameras[:: max(step, 1)])
    size = max((camera.height for camera in fitted), default=256)
    around = surrounding_cameras(gaussians, SURROUNDING_VIEWS, size)
    trust = [1.0] * len(fitted) + [SURROUNDING_TRUST] * len(around)
    return photograph(gaussians, mesh, [*fitted, *around], trust)
