"""Cameras that see a whole object of which only the Gaussians are known. Frame: world, +Z up."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from recon.gaussians import Gaussians
from recon.grid.cameras import Camera, orbit_camera

FOV_DEG = 33.8
MARGIN = 1.15  # distance, relative to that at which the ball fills the image


class Ball(NamedTuple):
    """A ball around an object.

    Attributes:
        center: world units, [3].
        radius: world units, above 0.
    """

    center: np.ndarray
    radius: float

    def camera(self, azimuth_deg: float, elevation_deg: float, size: int) -> Camera:
        """Return a camera whose image the ball fills.

        Args:
            azimuth_deg: see `recon.grid.cameras.orbit_camera`.
            elevation_deg: see `recon.grid.cameras.orbit_camera`.
            size: width and height of the image in pixels.
        """
        distance = MARGIN * self.radius / np.sin(np.radians(FOV_DEG) / 2)
        camera = orbit_camera(azimuth_deg, elevation_deg, distance, FOV_DEG, size, size)
        pose = camera.T_world_camera.copy()
        pose[:3, 3] += self.center
        return replace(camera, T_world_camera=pose)


def ball_around(gaussians: Gaussians, outliers: float) -> Ball:
    """Return the ball around the median of Gaussians that contains the means of nearly all.

    Args:
        gaussians: the Gaussians; the ball of none is the unit ball.
        outliers: fraction of the Gaussians that may lie outside.
    """
    means = gaussians.means.detach().double().cpu().numpy()
    if len(means) == 0:
        return Ball(np.zeros(3), 1.0)
    center = np.median(means, axis=0)
    radius = np.quantile(np.linalg.norm(means - center, axis=1), 1 - outliers)
    return Ball(center, max(float(radius), 1e-6))
