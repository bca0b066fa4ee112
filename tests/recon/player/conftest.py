"""Tiny moving scenes for the player, and a browser to play them."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from recon.deformation import Deformation
from recon.deformation.bones import BoneDeformation
from recon.deformation.keyframes import KeyframeDeformation
from recon.gaussians import Gaussians
from recon.grid.cameras import orbit_camera
from recon.scene import Scene
from tests.recon.player.browser import Browser, find_browser

TIMES = np.linspace(0, 1, 5)


def make_gaussians(count: int, degree: int) -> Gaussians:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Gaussians(
        means=0.22 * normal(count, 3),
        quats=normal(count, 4),
        scales=normal(count, 3) / 2 - 3.2,
        opacities=normal(count) + 1,
        sh0=normal(count, 1, 3),
        shN=normal(count, (degree + 1) ** 2 - 1, 3) / 6,
    )


def make_scene(motion: str, count: int = 400, degree: int = 0, size: int = 128) -> Scene:
    """Random Gaussians in a random motion, seen from above and at a slant."""
    gaussians = make_gaussians(count, degree)
    generator = torch.Generator().manual_seed(1)
    module: Deformation
    if motion == "bones":
        module = BoneDeformation.for_fit(gaussians, list(TIMES), bones=12)
    else:
        module = KeyframeDeformation.for_fit(gaussians, list(TIMES))
    for translation, rotation in zip(module.translations, module.rotations, strict=True):
        translation.data += 0.1 * torch.randn(translation.shape, generator=generator)
        rotation.data += 0.3 * torch.randn(rotation.shape, generator=generator)
    module.requires_grad_(False)
    cameras = tuple(orbit_camera(az, 20, 3.2, 33.8, size, size) for az in (30, 140, 250))
    return Scene(gaussians, module, TIMES, cameras)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium with a software renderer; skips where none is installed."""
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium or Chrome found (Debian: apt-get install chromium)")
    running = Browser(path)
    yield running
    running.close()
