"""The kernel activates Gaussians like PyTorch, gradients included."""

import pytest
import torch

from recon.activations import Activated, activated, activated_reference
from recon.gaussians import Gaussians
from recon.native.library import built

VIEWMATS = torch.eye(4)[None]


def random_gaussians(count: int) -> Gaussians:
    generator = torch.Generator().manual_seed(count)
    shapes = (3,), (4,), (3,), (), (1, 3), (0, 3)
    fields = (torch.randn(count, *shape, generator=generator) for shape in shapes)
    return Gaussians(*fields).map(lambda tensor: (4 * tensor).requires_grad_())


def gradients(gaussians: Gaussians, result: Activated) -> list[torch.Tensor]:
    """Gradients of a weighted sum of all results."""
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(tensor.shape, generator=generator) for tensor in result]
    total = torch.stack([(w * x).sum() for w, x in zip(weights, result, strict=True)]).sum()
    return list(torch.autograd.grad(total, [gaussians.scales, gaussians.opacities, gaussians.sh0]))


@pytest.mark.skipif(not built(), reason="needs the compiled kernels")
@pytest.mark.parametrize("count", [0, 1, 5, 2048, 5000])
def test_the_kernel_agrees_with_pytorch(count: int):
    gaussians = random_gaussians(count)
    found, expected = activated(gaussians, VIEWMATS), activated_reference(gaussians, VIEWMATS)
    assert "Activate" in type(found.scales.grad_fn).__name__
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=3e-6, atol=1e-7)
    for own, other in zip(gradients(gaussians, found), gradients(gaussians, expected), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-7)


def test_nan_stays_nan_so_that_a_diverged_fit_is_noticed():
    gaussians = random_gaussians(3).map(lambda tensor: torch.full_like(tensor, torch.nan))
    assert all(tensor.isnan().all() for tensor in activated(gaussians, VIEWMATS))


def test_extreme_parameters_have_finite_gradients():
    gaussians = random_gaussians(2).map(
        lambda tensor: torch.full_like(tensor, -200.0).requires_grad_()
    )
    found = activated(gaussians, VIEWMATS)
    assert all(tensor.isfinite().all() for tensor in gradients(gaussians, found))
    assert (found.colors == 0).all() and (found.scales >= 0).all()


def test_other_types_and_degrees_are_left_to_pytorch():
    double = random_gaussians(4).map(lambda tensor: tensor.detach().double())
    assert activated(double, VIEWMATS).scales.dtype == torch.float64
    view_dependent = random_gaussians(4)._replace(shN=torch.randn(4, 3, 3))
    assert activated(view_dependent, VIEWMATS.repeat(2, 1, 1)).colors.shape == (2, 4, 3)
