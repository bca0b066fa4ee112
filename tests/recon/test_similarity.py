"""A change of the world's unit and place changes no image and no motion."""

import numpy as np
import pytest
import torch

from recon.deformation import Deformation
from recon.deformation.interface import deformation_class
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid import orbit_camera
from recon.grid.initial_gaussians import InitialGaussians
from recon.rendering import render_gaussians, rendering_unit
from recon.scene import Scene
from recon.similarity import Similarity, normalizing

WORLDS = [
    Similarity(200.0, np.array([3e3, -1e3, 500.0])),
    Similarity(1e-3, np.array([0.0, 0.02, 0.0])),
    Similarity(1.0, np.array([60.0, -60.0, 30.0])),
]
CAMERA = orbit_camera(30, 10, 3.2, 33.8, 24, 20)


def cloud(count: int = 40) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(count, 3, generator=generator) - 0.5
    gaussians = gaussians_from_points(points, points.abs(), 0.07, 0.8, sh_degree=1)
    return gaussians._replace(quats=torch.rand(count, 4, generator=generator) - 0.5)


def motion(name: str, gaussians: Gaussians) -> Deformation:
    generator = torch.Generator().manual_seed(1)
    module = deformation_class(name).for_fit(gaussians, (0.0, 0.5, 1.0))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def test_the_inverse_takes_points_back():
    points = np.random.default_rng(0).normal(size=(5, 3))
    for world in WORLDS:
        np.testing.assert_allclose(world.inverse().points(world.points(points)), points, atol=1e-9)


def test_normalized_points_have_their_mean_at_the_origin_and_the_radius():
    points = WORLDS[0].points(np.random.default_rng(0).normal(size=(50, 3)))
    normalized = normalizing(points, 0.5).points(points)
    np.testing.assert_allclose(normalized.mean(0), 0, atol=1e-9)
    assert np.linalg.norm(normalized, axis=1).max() == pytest.approx(0.5)
    assert normalizing(points[:1], 0.5).scale == 1


@pytest.mark.parametrize("world", WORLDS)
def test_a_mapped_camera_sees_mapped_points_at_the_same_pixels(world: Similarity):
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (9, 3))
    pixels, depth = CAMERA.project(points)
    found, found_depth = world.camera(CAMERA).project(world.points(points))
    np.testing.assert_allclose(found, pixels, atol=1e-6)
    np.testing.assert_allclose(found_depth, world.scale * depth)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("world", WORLDS)
def test_a_mapped_camera_sees_the_same_image_of_mapped_gaussians(world: Similarity, backend: str):
    expected = render_gaussians(cloud(), [CAMERA], backend=backend)
    found = render_gaussians(world.gaussians(cloud()), [world.camera(CAMERA)], backend=backend)
    torch.testing.assert_close(found.rgb, expected.rgb, rtol=0, atol=2e-3)
    torch.testing.assert_close(found.alpha, expected.alpha, rtol=0, atol=2e-3)
    depth = found.depth / world.scale
    torch.testing.assert_close(depth, expected.depth, rtol=2e-3, atol=2e-3)


def test_the_unit_of_rendering_is_a_power_of_two_and_1_without_extent():
    units = [rendering_unit(Similarity(s, np.zeros(3)).gaussians(cloud())) for s in (1, 4, 0.01)]
    assert units[0] in (1, 2) and units[1] == 4 * units[0]
    assert all(np.log2(unit) == round(np.log2(unit)) for unit in units)
    for count in (0, 1):
        assert rendering_unit(cloud().map(lambda tensor, n=count: tensor[:n])) == 1


@pytest.mark.parametrize("name", ["static", "bones", "keyframes", "hexplane"])
@pytest.mark.parametrize("world", WORLDS)
def test_mapping_and_motion_can_be_exchanged(world: Similarity, name: str):
    gaussians = cloud()
    before = motion(name, gaussians)
    scene = Scene(gaussians, before, np.array([0.0, 0.5, 1.0]), (CAMERA,)).mapped(world)
    for time in (0.0, 0.3, 1.0):
        expected, found = world.gaussians(before(gaussians, time)), scene.at(time)
        # The rounding of coordinates that far from the origin.
        tolerance = 1e-5 * world.scale + 4e-7 * float(np.abs(world.offset).max())
        torch.testing.assert_close(found.means, expected.means, rtol=0, atol=tolerance)
        torch.testing.assert_close(found.quats, expected.quats, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.scales, expected.scales, rtol=0, atol=1e-5)


def test_initial_gaussians_are_mapped_like_others():
    world, gaussians = WORLDS[0], cloud()
    given = InitialGaussians(0, *(tensor.numpy() for tensor in gaussians[:5]))
    found, expected = world.initial_gaussians(given), world.gaussians(gaussians)
    np.testing.assert_allclose(found.means, expected.means, rtol=1e-6)
    np.testing.assert_allclose(found.scales, expected.scales, rtol=1e-6)
    assert found.frame == 0 and found.means.dtype == np.float32
