"""Convert a scene to one textured mesh of fixed topology with moving vertices.

    Gaussians in one pose ──extract──▶ mesh ──bind to Gaussians──▶ vertices at each time
                                        └────bake renderings────▶ texture or vertex colors

Letters: T frames, P vertices, F triangles, S texels along a side. Frame: world, +Z up.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from recon.film.framing import ball_around
from recon.gaussians import Gaussians
from recon.grid.cameras import Camera
from recon.mesh.skinning import bind_points, move_points
from recon.mesh.surface import Surface
from recon.mesh.texture import (
    RenderedView,
    Unwrapped,
    bake_texture,
    render_view,
    surface_colors,
    unwrap,
)
from recon.progress import OnStep, Progress, Whole, ignore_progress
from recon.scene import Scene
from recon.spherical_harmonics import fibonacci_sphere

MAX_FITTED_VIEWS = 16
SURROUNDING_VIEWS = 16
SURROUNDING_SIZE_PX = 256  # if the scene has no cameras to take the size from
SURROUNDING_WEIGHT = 0.02  # so low that they only color surfaces that no fitted camera sees
OUTLIER_FRACTION = 0.01  # Gaussians that may lie outside of the images


class AnimatedMesh(NamedTuple):
    """A mesh of fixed topology at T times.

    Attributes:
        positions: vertex positions in world units, [T, P, 3].
        normals: outward unit normals, [T, P, 3].
        rest: vertex positions in the pose in which the surface was extracted, [P, 3].
        rest_normals: their normals, [P, 3].
        faces: vertex indices, counter-clockwise seen from outside, [F, 3].
        vertex_colors: sRGB in [0, 1], [P, 3]; None with a texture.
        uv: texture coordinates in [0, 1], v down, [P, 2]; None with vertex colors.
        texture: sRGB, uint8, [S, S, 3]; None with vertex colors.
    """

    positions: np.ndarray
    normals: np.ndarray
    rest: np.ndarray
    rest_normals: np.ndarray
    faces: np.ndarray
    vertex_colors: np.ndarray | None = None
    uv: np.ndarray | None = None
    texture: np.ndarray | None = None


def textured_mesh(
    scene: Scene,
    surface: Surface,
    times: np.ndarray,
    size: int,
    on_step: OnStep = ignore_progress,
) -> AnimatedMesh:
    """Animate the surface of a scene and bake its texture.

    Args:
        scene: source of motion and colors.
        surface: result of `extract_surface` for this scene.
        times: times in [0, 1], [T].
        size: S, width and height of the texture.
        on_step: called before each part of the work; its steps are hundredths of the whole.
    """
    whole = Whole({"unwrapping": 3.0, "views": 1.0, "texture": 5.0, "motion": 1.0}, on_step)
    whole.part("unwrapping")(Progress("unwrapping the surface", 0, None))
    unwrapped = unwrap(surface.mesh, size)
    views = _rendered_views(scene, surface, whole.part("views"))
    whole.part("texture")(Progress("baking the texture", 0, None))
    texture = bake_texture(surface.mesh, unwrapped, views, size)
    whole.part("motion")(Progress("moving the mesh", 0, None))
    moving = moving_mesh(scene, surface, times, unwrapped)
    return moving._replace(uv=unwrapped.uv, texture=texture)


def vertex_colored_mesh(
    scene: Scene, surface: Surface, times: np.ndarray, on_step: OnStep = ignore_progress
) -> AnimatedMesh:
    """Animate the surface of a scene and color its vertices; arguments as in `textured_mesh`."""
    mesh, whole = surface.mesh, Whole({"views": 1.0, "motion": 1.0}, on_step)
    views = _rendered_views(scene, surface, whole.part("views"))
    whole.part("motion")(Progress("moving the mesh", 0, None))
    colors = surface_colors(mesh.vertices, mesh.normals(), views)
    return moving_mesh(scene, surface, times)._replace(vertex_colors=colors)


def moving_mesh(
    scene: Scene, surface: Surface, times: np.ndarray, unwrapped: Unwrapped | None = None
) -> AnimatedMesh:
    """Animate the surface of a scene, without colors.

    Args:
        scene: source of the motion.
        surface: result of `extract_surface` for this scene.
        times: times in [0, 1], [T].
        unwrapped: the mesh cut into charts; None: as it is.
    """
    mesh = surface.mesh
    binding = bind_points(mesh.vertices, surface.gaussians)
    with torch.no_grad():
        moved = [
            move_points(binding, surface.gaussians, scene.at(float(time))).double().cpu().numpy()
            for time in times
        ]
    positions = np.stack(moved)
    normals = np.stack([mesh.normals(vertices) for vertices in moved])
    result = AnimatedMesh(positions, normals, mesh.vertices, mesh.normals(), mesh.faces)
    if unwrapped is None:
        return result
    return result._replace(
        positions=positions[:, unwrapped.origin],
        normals=normals[:, unwrapped.origin],
        rest=result.rest[unwrapped.origin],
        rest_normals=result.rest_normals[unwrapped.origin],
        faces=unwrapped.faces,
    )


def surrounding_cameras(gaussians: Gaussians, count: int, size: int) -> list[Camera]:
    """Place cameras evenly on a sphere around an object, so that it fills their images.

    Args:
        gaussians: Gaussians of the object.
        count: number of cameras.
        size: width and height of the images in pixels.
    """
    ball, cameras = ball_around(gaussians, OUTLIER_FRACTION), []
    for x, y, z in fibonacci_sphere(count):
        azimuth, elevation = np.degrees([np.arctan2(x, -y), np.arcsin(z)])
        cameras.append(ball.camera(azimuth, elevation, size))
    return cameras


def _rendered_views(scene: Scene, surface: Surface, on_step: OnStep) -> list[RenderedView]:
    gaussians, mesh = surface.gaussians, surface.mesh
    step = max(1, -(-len(scene.cameras) // MAX_FITTED_VIEWS))
    fitted = scene.cameras[::step]
    size = max((camera.height for camera in fitted), default=SURROUNDING_SIZE_PX)
    surrounding = surrounding_cameras(gaussians, SURROUNDING_VIEWS, size)
    weighted = [(camera, 1.0) for camera in fitted]
    weighted += [(camera, SURROUNDING_WEIGHT) for camera in surrounding]
    views = []
    for camera, weight in weighted:
        on_step(Progress("rendering the views", len(views), len(weighted)))
        views.append(render_view(gaussians, mesh, camera, weight))
    return views
