"""Group norms keep their digits where PyTorch's own lose them, and the memory format too."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from generation.models.normalization import GROUPS, GroupNorm, group_norm
from tests.generation.models.random_weights import frames, numbers

SHAPES = [(2, 32, 4, 6), (3, 64, 1, 5), (1, 96, 7, 1), (2, 64, 5, 24)]
EPS = 1e-5


def affine(channels: int) -> tuple[Tensor, Tensor]:
    return 1 + 0.3 * numbers(channels, seed=1), numbers(channels, seed=2)


def exact(x: Tensor, weight: Tensor, bias: Tensor, eps: float = EPS) -> Tensor:
    return functional.group_norm(x.double(), GROUPS, weight.double(), bias.double(), eps)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_it_is_torchs_group_norm_in_float64(shape: tuple[int, ...], eps: float):
    x, (weight, bias) = frames(*shape), affine(shape[1])
    expected = exact(x, weight, bias, eps)
    torch.testing.assert_close(group_norm(x, weight, bias, eps).double(), expected, **EXACT)
    plain = group_norm(x.contiguous(), weight, bias, eps)
    torch.testing.assert_close(plain.double(), expected, **EXACT)


EXACT = {"rtol": 0, "atol": 5e-6}


@pytest.mark.parametrize("shape", [(2, 64, 16, 24), (1, 128, 5, 64), (1, 64, 40, 36)])
def test_means_a_thousand_times_the_deviation_cost_no_more_digits_than_the_input_has(
    shape: tuple[int, ...],
):
    """A float32 near 1000 is 6e-5 apart from the next, and PyTorch's kernel is far worse."""
    x, (weight, bias) = frames(*shape) + 1000, affine(shape[1])
    expected = exact(x, weight, bias)
    found = group_norm(x, weight, bias, EPS).double()
    assert float((found - expected).abs().max()) < 3e-4
    theirs = functional.group_norm(x, GROUPS, weight, bias, EPS).double()
    assert float((theirs - expected).abs().max()) > 3e-3


def test_a_mean_that_changes_from_row_to_row_is_counted_in_the_variance():
    rows = torch.arange(6.0)[:, None].expand(6, 4)
    x = (100 * rows + numbers(2, 64, 6, 4)).to(memory_format=torch.channels_last)
    weight, bias = affine(64)
    torch.testing.assert_close(
        group_norm(x, weight, bias, EPS).double(), exact(x, weight, bias), **EXACT
    )


def test_an_input_without_variance_becomes_the_bias():
    weight, bias = affine(64)
    found = group_norm(torch.full((2, 64, 3, 4), 7.0), weight, bias, EPS)
    torch.testing.assert_close(found, bias[None, :, None, None].expand(2, 64, 3, 4))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_gradients_are_those_of_torchs_group_norm(shape: tuple[int, ...], mean: float):
    x = frames(*shape, dtype=torch.float64) + mean
    x, weight, bias = (value.double().requires_grad_() for value in (x, *affine(shape[1])))
    inputs, pull = (x, weight, bias), numbers(*shape, seed=3, dtype=torch.float64)
    found = torch.autograd.grad(group_norm(*inputs, eps=EPS), inputs, pull)
    expected = torch.autograd.grad(exact(*inputs), inputs, pull)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_channels_last_goes_in_and_comes_out(dtype: torch.dtype):
    weight, bias = (value.to(dtype) for value in affine(64))
    found = group_norm(frames(2, 64, 5, 4, dtype=dtype), weight, bias, EPS)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.dtype == dtype


def test_bfloat16_is_within_its_own_rounding():
    x, (weight, bias) = frames(2, 64, 5, 4, dtype=torch.bfloat16), affine(64)
    found = group_norm(x, weight.bfloat16(), bias.bfloat16(), EPS)
    expected = exact(x, weight.bfloat16(), bias.bfloat16())
    assert float((found.double() - expected).abs().max()) < 0.05


def test_the_layer_has_the_names_and_the_numbers_of_torchs_own():
    layer, x = GroupNorm(64, eps=1e-3), frames(2, 64, 3, 4)
    own = torch.nn.GroupNorm(GROUPS, 64, eps=1e-3)
    weight, bias = affine(64)
    for each in (layer, own):
        each.load_state_dict({"weight": weight, "bias": bias})
    torch.testing.assert_close(layer(x), own(x), rtol=0, atol=5e-6)
