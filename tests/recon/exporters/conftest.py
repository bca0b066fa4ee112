"""Tiny scenes for the exporters, with rotation, motion and view-dependent color."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from recon.deformation import Deformation
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid.cameras import orbit_camera
from recon.rotations import multiply_quats, quats_to_matrices
from recon.scene import Scene
from recon.similarity import Similarity
from recon.spherical_harmonics import fibonacci_sphere


class Swing(Deformation):
    """A rigid turn about +Z by `time` radians and a step of `time` / 2 along +X."""

    name: ClassVar[str] = "swing"

    world = Similarity(1.0, np.zeros(3))

    def forward(self, gaussians: Gaussians, time: float) -> Gaussians:
        gaussians = self.world.inverse().gaussians(gaussians)
        quat = torch.tensor([np.cos(time / 2), 0, 0, np.sin(time / 2)], dtype=torch.float32)
        means = gaussians.means @ quats_to_matrices(quat).T + torch.tensor([time / 2, 0, 0])
        moved = gaussians._replace(means=means, quats=multiply_quats(quat, gaussians.quats))
        return self.world.gaussians(moved)

    def change_world(self, scale: float, offset: Tensor) -> None:
        moved = scale * self.world.offset + offset.numpy()
        self.world = Similarity(scale * self.world.scale, moved)

    def configuration(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_tensors(
        cls, configuration: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> Deformation:
        return cls()


@pytest.fixture
def random_gaussians() -> Gaussians:
    """50 Gaussians without any symmetry, degree 3."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return Gaussians(
        means=0.3 * normal(50, 3),
        quats=normal(50, 4),
        scales=normal(50, 3) / 3 - 2.5,
        opacities=normal(50),
        sh0=normal(50, 1, 3) / 2,
        shN=normal(50, 15, 3) / 5,
    )


@pytest.fixture
def scene() -> Scene:
    """An ellipsoid, red to the front (−Y), blue behind, that swings over 5 times."""
    points = torch.tensor(fibonacci_sphere(300), dtype=torch.float32)
    front = (points[:, 1:2] < 0).float()
    rgb = front * torch.tensor([0.8, 0.2, 0.1]) + (1 - front) * torch.tensor([0.1, 0.2, 0.7])
    sides = points * torch.tensor([0.3, 0.2, 0.4])
    cameras = tuple(orbit_camera(azimuth, 10, 3.2, 33.8, 48, 48) for azimuth in (0, 90, 180, 270))
    return Scene(
        gaussians_from_points(sides, rgb, 0.03, opacity=0.9), Swing(), np.linspace(0, 1, 5), cameras
    )
