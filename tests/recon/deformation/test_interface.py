import torch

from recon.deformation import load_deformation
from recon.deformation.interface import StaticDeformation
from recon.gaussians import gaussians_from_points


def test_the_gaussians_are_the_same_at_every_time():
    gaussians = gaussians_from_points(torch.rand(5, 3), torch.rand(5, 3), 0.1)
    for time in (0.0, 0.3, 1.0):
        moved = StaticDeformation()(gaussians, time)
        assert all(torch.equal(a, b) for a, b in zip(moved, gaussians, strict=True))


def test_it_is_loaded_from_nothing():
    assert isinstance(load_deformation("static", {}, {}), StaticDeformation)
