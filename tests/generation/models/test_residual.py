"""Residual blocks: 3-D convolutions as what they are, statistics over all frames, pieces."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, group_norm, silu

from generation.models.normalization import GROUPS, GroupNorm
from generation.models.residual import (
    FrameBlock,
    FrameConvolution,
    ResidualBlock,
    SpaceTimeBlock,
)
from tests.generation.models.plain_blocks import linear
from tests.generation.models.random_weights import error, frames, numbers, with_random_weights

C, E, F, H, W = 64, 12, 5, 3, 4


def test_a_frame_convolution_is_a_3d_convolution_over_three_frames():
    layer = with_random_weights(FrameConvolution(C))
    plain = nn.Conv3d(C, C, (3, 1, 1), padding=(1, 0, 0))
    plain.load_state_dict(layer.state_dict())
    x = numbers(2, C, F, H * W)
    torch.testing.assert_close(
        layer(x), plain(x.unflatten(-1, (H, W))).flatten(-2), rtol=1e-5, atol=1e-5
    )


def test_the_block_along_frames_normalises_over_all_of_them_and_convolves_in_3d():
    block = with_random_weights(FrameBlock(C, E))
    x, emb = frames(2 * F, C, H, W), numbers(2 * F, E, seed=1)
    found = block(x, emb, F)
    assert error(found, plain_frame_block(block, x, emb)) < 1e-5
    assert found.is_contiguous(memory_format=torch.channels_last)


def plain_frame_block(block: FrameBlock, x: Tensor, emb: Tensor) -> Tensor:
    """SPEC: [b, C, F, h, w], norm, SiLU, convolution, embedding of each frame, and again."""

    def normed_and_convolved(x: Tensor, layers: nn.Sequential) -> Tensor:
        norm, convolution = layers[0], layers[-1]
        assert isinstance(norm, GroupNorm)
        assert isinstance(convolution, FrameConvolution)
        x = group_norm(x, GROUPS, norm.weight.double(), norm.bias.double(), 1e-5)
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
def test_frames_that_go_through_space_in_pieces_give_the_same_and_the_same_gradients(
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


def test_no_more_frames_go_through_space_at_once_than_were_allowed():
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
