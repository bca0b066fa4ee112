import torch

from recon.deformation import load_deformation
from recon.deformation.interface import StaticDeformation
from recon.gaussians import gaussians_from_points


def test_the_static_model_returns_the_same_gaussians_at_every_time():
    gaussians = gaussians_from_points(torch.rand(5, 3), torch.rand(5, 3), 0.1)
    for time in (0.0, 0.3, 1.0):
        moved = StaticDeformation()(gaussians, time)
        assert all(torch.equal(a, b) for a, b in zip(moved, gaussians, strict=True))


def test_the_static_model_is_loaded_without_tensors():
    assert isinstance(load_deformation("static", {}, {}), StaticDeformation)
