import numpy as np
import pytest
import torch

from generation.lift.gaussians import gaussians_of
from generation.lift.surface import surface_of
from recon.gaussians import sh0_to_rgb
from recon.rendering import render_gaussians
from recon.rotations import quats_to_matrices
from tests.generation.lift.tiny_layers import (
    BACK_COLOR,
    FRONT_COLOR,
    ball_depths,
    ball_image,
    camera,
    layers_of,
    solid_image,
)


@pytest.fixture(scope="module")
def ball():
    """A ball of radius 0.7."""
    return surface_of(layers_of(ball_depths(48, 0.7)), ball_image(64, 0.7), camera(64))


@pytest.mark.parametrize("count", [300, 5000])
def test_about_the_desired_number_covers_the_surface(ball, count):
    gaussians = gaussians_of(ball, count)
    assert len(gaussians.means) == pytest.approx(count, rel=0.1)
    distance = gaussians.means.norm(dim=1)
    assert distance.quantile(0.05) > 0.55 and distance.max() < 0.73
    assert all(torch.isfinite(values).all() for values in gaussians)


def test_gaussians_lie_flat_on_the_surface(ball):
    gaussians = gaussians_of(ball, 3000)
    assert (gaussians.scales[:, 2] < gaussians.scales[:, 0] - 1).all()
    across = quats_to_matrices(gaussians.quats)[:, :, 2]
    outwards = gaussians.means / gaussians.means.norm(dim=1, keepdim=True)
    assert (across * outwards).sum(1).median() > 0.97


def test_their_image_is_that_of_the_surface(ball):
    views = [camera(64, azimuth, 10) for azimuth in (0, 90, 180)]
    rendering = render_gaussians(gaussians_of(ball, 5000), views, backend="cpu")
    truth = ball_image(64, 0.7)[..., 3] > 127
    for alpha in rendering.alpha.numpy():
        mask = alpha > 0.5
        assert (mask & truth).sum() / (mask | truth).sum() > 0.93
    middle = 255 * rendering.rgb[[0, 2], 32, 32].numpy()
    assert np.abs(middle - [FRONT_COLOR, BACK_COLOR]).max() < 25


def test_the_sides_of_a_thin_sheet_keep_their_colors():
    mask = np.zeros((32, 32), np.bool_)
    mask[8:24, 8:24] = True
    front = np.where(mask, 3.2, np.nan)
    surface = surface_of(layers_of([front, front]), solid_image(mask), camera(32))
    gaussians = gaussians_of(surface, 1000)
    rgb = 255 * sh0_to_rgb(gaussians.sh0[:, 0]).numpy()
    behind = gaussians.means[:, 1] > gaussians.means[:, 1].median()
    is_back = np.abs(rgb - BACK_COLOR).max(1) < 40
    assert np.mean(is_back == behind.numpy()) > 0.9


def test_an_empty_surface_has_no_gaussians():
    surface = surface_of(
        layers_of(ball_depths(16, 0.5)), np.zeros((16, 16, 4), np.uint8), camera(16)
    )
    assert all(len(values) == 0 for values in gaussians_of(surface, 100))
