"""Similarities without rotation, x' = s x + o: a change of the world's unit and place.

A fit and the extraction of meshes compute with an object of a fixed size at the origin, so that
learning rates, near planes and tolerances fit worlds in any unit. Letters: s scale, o offset.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recon.deformation import Deformation
from recon.gaussians import Gaussians
from recon.grid.cameras import Camera
from recon.grid.grid import Grid
from recon.grid.initial_gaussians import InitialGaussians
from recon.grid.source_camera import SourceCamera


class Similarity(NamedTuple):
    """The map x' = s x + o of world coordinates.

    Attributes:
        scale: s, positive.
        offset: o in units of the result, float64, [3].
    """

    scale: float
    offset: np.ndarray

    def inverse(self) -> Similarity:
        """Return the map x = (x' − o) / s."""
        return Similarity(1 / self.scale, -self.offset / self.scale)

    def points(self, points: np.ndarray) -> np.ndarray:
        """Map points, [..., 3]."""
        return self.scale * points + self.offset

    def camera(self, camera: Camera) -> Camera:
        """Move a camera, which then sees the mapped world as it saw the world before."""
        pose = camera.T_world_camera.copy()
        pose[:3, 3] = self.points(pose[:3, 3])
        return replace(camera, T_world_camera=pose)

    def source_camera(self, source: SourceCamera | None) -> SourceCamera | None:
        """Move a source camera as any camera; None stays None."""
        return None if source is None else source.with_camera(self.camera(source.camera))

    def gaussians(self, gaussians: Gaussians) -> Gaussians:
        """Map Gaussians; computed in float64, because places far from the origin lose digits."""
        means = self.scale * gaussians.means.double() + _like(self.offset, gaussians.means)
        return gaussians._replace(
            means=means.to(gaussians.means), scales=gaussians.scales + math.log(self.scale)
        )

    def initial_gaussians(self, given: InitialGaussians) -> InitialGaussians:
        """Map the Gaussians that come with a grid."""
        return given._replace(
            means=self.points(given.means.astype(np.float64)).astype(np.float32),
            scales=given.scales + np.float32(math.log(self.scale)),
        )

    def grid(self, grid: Grid) -> Grid:
        """Move the cameras and the initial Gaussians of a grid; the images are shared."""
        given = grid.initial_gaussians
        return replace(
            grid,
            cameras=tuple(self.camera(camera) for camera in grid.cameras),
            initial_gaussians=None if given is None else self.initial_gaussians(given),
            source_camera=self.source_camera(grid.source_camera),
        )

    def deformation(self, deformation: Deformation) -> Deformation:
        """Return a copy of a motion model that moves mapped Gaussians to mapped places."""
        moved = copy.deepcopy(deformation)
        with torch.no_grad():
            moved.change_world(self.scale, torch.from_numpy(self.offset))
        return moved


def normalizing(points: np.ndarray, radius: float) -> Similarity:
    """Return the map that takes the mean of points to the origin and the farthest to a sphere.

    Args:
        points: [N, 3], N ≥ 1.
        radius: radius of the sphere around the mapped points. If all points coincide, the scale
            is 1.
    """
    center = points.mean(axis=0, dtype=np.float64)
    farthest = float(np.linalg.norm(points - center, axis=1).max())
    scale = radius / farthest if farthest > 0 else 1.0
    return Similarity(scale, -scale * center)


def _like(offset: np.ndarray, tensor: Tensor) -> Tensor:
    return torch.from_numpy(offset).to(tensor.device)
