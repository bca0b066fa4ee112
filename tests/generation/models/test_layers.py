"""Embeddings, normalization and residual blocks against plain computations."""

import math
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import conv3d, silu

from generation.models.layers import (
    CACHED_TOKENS,
    GROUPS,
    Chunk,
    FrameBlock,
    FrameConvolution,
    GroupNorm,
    ResidualBlock,
    SpaceTimeBlock,
    embedding_mlp,
    group_norm,
    sinusoidal_embedding,
)
from tests.generation.models.plain_blocks import linear
from tests.generation.models.random_weights import error, frames, numbers, with_random_weights


def test_a_set_chunk_overrides_the_devices_default():
    for device in ("cpu", "meta"):
        assert Chunk(7).size(torch.empty(2, device=device)) == 7


def test_chunks_are_of_cache_size_on_a_cpu_and_unlimited_on_an_accelerator():
    assert Chunk().size(torch.empty(2)) == CACHED_TOKENS
    assert Chunk().size(torch.empty(2, device="meta")) == sys.maxsize


@pytest.mark.parametrize("width", [2, 8, 320])
def test_the_embedding_is_cos_then_sin_at_falling_frequencies(width: int):
    values, half = [0.0, 1e-5, 1.5, math.tau, 20.0], width // 2
    found = sinusoidal_embedding(torch.tensor(values), width)
    for row, value in zip(found.tolist(), values, strict=True):
        angles = [value * 10_000 ** (-k / half) for k in range(half)]
        expected = [*map(math.cos, angles), *map(math.sin, angles)]
        assert row == pytest.approx(expected, abs=1e-5)


def test_every_frequency_is_a_point_on_the_unit_circle():
    x, y = sinusoidal_embedding(torch.linspace(-9, 9, 7), 16).chunk(2, -1)
    torch.testing.assert_close(x**2 + y**2, torch.ones(7, 8))


def test_values_of_any_shape_and_type_become_float32_along_a_new_axis():
    for dtype in (torch.int64, torch.float32, torch.float64):
        found = sinusoidal_embedding(torch.ones(2, 3, dtype=dtype), 6)
        assert found.shape == (2, 3, 6)
        assert found.dtype == torch.float32


def test_the_mlp_is_linear_silu_linear():
    mlp, x = embedding_mlp(3, 5, 2), torch.tensor([[1.0, -2.0, 0.5]])
    inside = linear(mlp[0], x)
    expected = linear(mlp[2], inside / (1 + (-inside).exp()))
    torch.testing.assert_close(mlp(x).double(), expected, rtol=1e-5, atol=1e-6)


SHAPES = [(2, 32, 4, 6), (3, 64, 1, 5), (1, 96, 7, 1), (2, 64, 5, 24)]
EPS = 1e-5


def affine(channels: int) -> tuple[Tensor, Tensor]:
    return 1 + 0.3 * numbers(channels, seed=1), numbers(channels, seed=2)


def exact(x: Tensor, weight: Tensor, bias: Tensor, eps: float = EPS) -> Tensor:
    return functional.group_norm(x.double(), GROUPS, weight.double(), bias.double(), eps)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_group_norm_is_torchs_in_float64(shape: tuple[int, ...], eps: float):
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


C, E, F, H, W = 64, 12, 5, 3, 4


def test_a_frame_convolution_is_a_3d_convolution_over_three_frames():
    layer = with_random_weights(FrameConvolution(C))
    plain = nn.Conv3d(C, C, (3, 1, 1), padding=(1, 0, 0))
    plain.load_state_dict(layer.state_dict())
    x = numbers(2, C, F, H * W)
    torch.testing.assert_close(
        layer(x), plain(x.unflatten(-1, (H, W))).flatten(-2), rtol=1e-5, atol=1e-5
    )


def test_the_block_along_frames_normalizes_over_all_of_them_and_convolves_in_3d():
    block = with_random_weights(FrameBlock(C, E))
    x, emb = frames(2 * F, C, H, W), numbers(2 * F, E, seed=1)
    found = block(x, emb, F)
    assert error(found, plain_frame_block(block, x, emb)) < 1e-5
    assert found.is_contiguous(memory_format=torch.channels_last)


def plain_frame_block(block: FrameBlock, x: Tensor, emb: Tensor) -> Tensor:
    """Compute the block in [b, C, F, h, w]: twice norm, SiLU, convolution, with the embedding."""

    def normed_and_convolved(x: Tensor, layers: nn.Sequential) -> Tensor:
        norm, convolution = layers[0], layers[-1]
        assert isinstance(norm, GroupNorm)
        assert isinstance(convolution, FrameConvolution)
        x = functional.group_norm(x, GROUPS, norm.weight.double(), norm.bias.double(), 1e-5)
        weight, bias = convolution.weight.double(), convolution.bias
        assert bias is not None
        return conv3d(silu(x), weight, bias.double(), padding=(1, 0, 0))

    clips = x.double().unflatten(0, (-1, F)).transpose(1, 2)
    shift = linear(block.emb_layers[1], silu(emb.double()))
    shift = shift.unflatten(0, (-1, F)).transpose(1, 2)[..., None, None]
    inside = normed_and_convolved(clips, block.in_layers) + shift
    return (clips + normed_and_convolved(inside, block.out_layers)).transpose(1, 2).flatten(0, 1)


def test_clips_of_a_batch_do_not_see_each_other():
    block = with_random_weights(FrameBlock(C, E))
    x, emb = frames(2 * F, C, H, W), numbers(2 * F, E, seed=1)
    alone = torch.cat([block(x[:F], emb[:F], F), block(x[F:], emb[F:], F)])
    torch.testing.assert_close(block(x, emb, F), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels_in", [C, 32])
def test_frames_in_chunks_give_the_same_and_the_same_gradients(
    channels_in: int,
):
    block = with_random_weights(ResidualBlock(channels_in, C, E)).double()
    x = frames(F, channels_in, H, W, dtype=torch.float64).requires_grad_()
    emb = numbers(F, E, seed=1, dtype=torch.float64).requires_grad_()
    inputs = (x, emb, *block.parameters())
    expected = block.in_space(x, emb)
    assert expected.shape == (F, C, H, W)
    wanted = torch.autograd.grad(expected.square().sum(), inputs)
    for tokens in (1, H * W, 2 * H * W, 3 * H * W + 1, 1000):
        block.chunk.tokens = tokens
        found = block.in_space(x, emb)
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found.square().sum(), inputs), wanted)


def test_no_chunk_has_more_frames_than_the_limit():
    block, sizes = ResidualBlock(C, C, E), []
    block.in_layers.register_forward_hook(lambda _, x, __: sizes.append(len(x[0])))
    for tokens in (1, 2 * H * W, 1000):
        block.chunk.tokens = tokens
        block.in_space(frames(F, C, H, W), numbers(F, E))
    assert sizes == [1, 1, 1, 1, 1, 2, 2, 1, 5]


def test_a_kept_frame_is_not_blended():
    block = with_random_weights(SpaceTimeBlock(C, C, E))
    space, along = frames(F, C, H, W), frames(F, C, H, W, seed=1)
    keep = torch.arange(F) == 2
    found = block.blend(space, along, keep)
    assert torch.equal(found[keep], space[keep])
    assert torch.equal(found[~keep], block.blend(space, along)[~keep])
