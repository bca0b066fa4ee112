"""The gated feed-forward is its formula, and nobody can tell whether it ran in pieces."""

import pytest
import torch

from generation.models.feed_forward import FeedForward
from tests.generation.models.plain_blocks import plain_feed_forward
from tests.generation.models.random_weights import error, numbers, with_random_weights

C = 8


def test_it_is_the_formula_with_the_exact_gelu():
    layer, x = with_random_weights(FeedForward(C)), numbers(5, C)
    assert error(layer(x), plain_feed_forward(layer, x)) < 1e-6


@pytest.mark.parametrize("shape", [(7, C), (2, 3, 1, C), (2, 2, 3, C), (1, C)])
def test_pieces_of_every_size_give_the_same_and_the_same_gradients(shape: tuple[int, ...]):
    layer, x = with_random_weights(FeedForward(C)).double(), numbers(*shape, dtype=torch.float64)
    x.requires_grad_()
    inputs = (x, *layer.parameters())
    expected = layer(x)
    wanted = torch.autograd.grad(expected.square().sum(), inputs)
    for tokens in range(1, 14):
        layer.chunk.tokens = tokens
        found = layer(x)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found.square().sum(), inputs), wanted)


def test_no_more_tokens_go_through_at_once_than_were_allowed():
    layer, sizes = FeedForward(C), []
    layer.net[0].register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    layer.chunk.tokens = 4
    layer(numbers(2, 5, C))
    assert sizes == [4, 4, 2]


def test_tokens_that_do_not_lie_side_by_side_may_go_through_in_pieces():
    layer, x = with_random_weights(FeedForward(C)), numbers(4, 3, C).transpose(0, 1)
    expected = layer(x)
    layer.chunk.tokens = 5
    torch.testing.assert_close(layer(x), expected)
