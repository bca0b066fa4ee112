"""Cameras from which to look at Gaussians all around, wherever the fitted cameras were.

Frame: world, +Z up. What it does not know: what the pictures are for.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from recon.gaussians import Gaussians
from recon.grid.cameras import Camera, orbit_camera
from recon.spherical_harmonics import fibonacci_sphere

FOV_DEG = 33.8  # that of the grids
MARGIN = 1.15  # free space around the object
OUTLIERS = 0.01  # share of the Gaussians that may lie outside the ball that is looked at


def surrounding_cameras(gaussians: Gaussians, count: int, size: int) -> list[Camera]:
    """Cameras spread evenly over a sphere, each with the whole object in its square image.

    Args:
        gaussians: the object.
        count: number of cameras.
        size: width and height of the images in pixels.
    """
    means = gaussians.means.detach().double().cpu().numpy()
    centre = np.median(means, axis=0)
    radius = np.quantile(np.linalg.norm(means - centre, axis=1), 1 - OUTLIERS)
    distance = MARGIN * max(radius, 1e-6) / np.sin(np.radians(FOV_DEG) / 2)
    cameras = []
    for x, y, z in fibonacci_sphere(count):
        azimuth, elevation = np.degrees([np.arctan2(x, -y), np.arcsin(z)])
        camera = orbit_camera(azimuth, elevation, distance, FOV_DEG, size, size)
        pose = camera.T_world_camera.copy()
        pose[:3, 3] += centre
        cameras.append(dataclasses.replace(camera, T_world_camera=pose))
    return cameras
