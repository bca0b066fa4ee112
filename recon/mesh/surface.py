"""Extract the surface of a moving object in the pose in which it is most open.

Where parts touch or are folded (fingers in a fist, an arm at the side), an extracted surface fuses
or lacks them, which shows as soon as they move apart. So the surface is extracted roughly in
several poses and moved to other times; the best pose is the one whose silhouettes agree best with
those of the Gaussians.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from recon.errors import SceneError
from recon.gaussians import Gaussians
from recon.mesh.extraction import Mesh, extract_mesh
from recon.mesh.skinning import bind_points, move_points
from recon.progress import OnStep, Progress, ignore_progress
from recon.rasterizers.mesh import camera_points, rasterize_mesh
from recon.rendering import render_gaussians
from recon.scene import Scene
from recon.selection import evenly_spaced

TRIED_POSES, TRIED_TIMES, TRIED_VIEWS = 6, 6, 4  # evenly spaced; about a second for each pose
ROUGH_RESOLUTION, SILHOUETTE_SIZE = 80, 96  # voxels and pixels, for comparisons
GAIN_MIN = 0.05  # relative; smaller differences do not outweigh that the canonical pose fits best


class Surface(NamedTuple):
    """A surface and the pose in which it was extracted.

    Attributes:
        mesh: the surface in this pose.
        gaussians: the Gaussians of the scene in this pose.
        time: time of the pose in [0, 1]; None: the canonical pose.
    """

    mesh: Mesh
    gaussians: Gaussians
    time: float | None = None


def extract_surface(scene: Scene, time: float | None, faces: int, resolution: int) -> Surface:
    """Extract the surface in the pose at a time, or in the canonical pose.

    Args:
        scene: the scene.
        time: time in [0, 1], such as the `most_open_time`; None: the canonical pose.
        faces: maximum number of triangles.
        resolution: voxels along the longest side of the object.

    Raises:
        SceneError: The Gaussians enclose no surface.
    """
    with torch.no_grad():
        pose = scene.gaussians if time is None else scene.at(time)
    return Surface(extract_mesh(pose, faces, resolution), pose, time)


@torch.no_grad()
def most_open_time(
    scene: Scene, resolution: int = ROUGH_RESOLUTION, on_step: OnStep = ignore_progress
) -> float | None:
    """Return the time of the pose whose surface agrees best with the scene at all times.

    Compared are the canonical pose, for which None is returned, and poses at fitted times.

    Args:
        scene: the scene.
        resolution: voxels along the longest side of the object, at most `ROUGH_RESOLUTION` of which
            are used.
        on_step: called before each pose.
    """
    if len(scene.times) < 2 or not scene.cameras:
        return None
    frames, size = len(scene.times), SILHOUETTE_SIZE
    moved = [scene.at(float(scene.times[frame])) for frame in evenly_spaced(frames, TRIED_TIMES)]
    views = evenly_spaced(len(scene.cameras), TRIED_VIEWS)
    cameras = [scene.cameras[view].resized(size, size) for view in views]
    expected = [
        render_gaussians(pose, cameras, (0.0, 0.0, 0.0)).alpha.cpu().numpy() for pose in moved
    ]

    def disagreement(pose: Gaussians) -> float:
        try:
            mesh = extract_mesh(pose, 10**7, min(resolution, ROUGH_RESOLUTION))
        except SceneError:  # this pose encloses no surface; another one may
            return np.inf
        binding = bind_points(mesh.vertices, pose)
        total = 0.0
        for other, alphas in zip(moved, expected, strict=True):
            vertices = move_points(binding, pose, other).double().cpu().numpy()
            for camera, alpha in zip(cameras, alphas, strict=True):
                points = camera_points(vertices, camera)
                found = rasterize_mesh(points, mesh.faces, camera.height, camera.width).face >= 0
                total += float(np.abs(found - alpha).sum())
        return total

    tried = evenly_spaced(frames, TRIED_POSES)
    on_step(Progress("comparing poses", 0, 1 + len(tried)))
    best, least = None, (1 - GAIN_MIN) * disagreement(scene.gaussians)
    for done, frame in enumerate(tried, start=1):
        on_step(Progress("comparing poses", done, 1 + len(tried)))
        time = float(scene.times[frame])
        found = disagreement(scene.at(time))
        if found < least:
            best, least = time, found
    return best
