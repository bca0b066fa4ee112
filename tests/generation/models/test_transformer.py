"""Transformer blocks are what the book says, whole or in pieces."""

import pytest
import torch
from torch import Tensor

from generation.models.transformer import Mixer, SequenceBlock, TransformerBlock
from tests.generation.models.plain_blocks import plain_block
from tests.generation.models.random_weights import error, gradients, numbers, with_random_weights

C, HEAD, CONTEXT = 16, 8, 5
KINDS = [TransformerBlock, SequenceBlock]
SHAPES = [  # of tokens, and of what they attend to, which is broadcast
    ((6, 5, 1, C), (6, 1, 1, CONTEXT)),  # pixels of a frame
    ((3, 4, 5, C), (3, 1, 1, CONTEXT)),  # views, or frames, at a pixel
    ((3, 4, 5, C), (1, 1, 1, CONTEXT)),
    ((1, 4, 7, C), (1, 1, 7, CONTEXT)),  # times at a pixel of a view, which tells each its own
    ((2, 4, 7, C), (2, 1, 7, CONTEXT)),
    ((2, 4, 7, C), (1, 1, 7, CONTEXT)),
    ((9, 4, 1, C), (9, 1, 1, CONTEXT)),  # groups of pixels
    ((1, 5, 1, C), (1, 1, 1, CONTEXT)),
]


def block_of(kind: type[TransformerBlock]) -> TransformerBlock:
    return with_random_weights(kind(C, HEAD, CONTEXT))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "told"), SHAPES)
def test_a_block_is_the_plain_one_of_each_sequence_and_its_token(kind, shape, told):
    block, x, context = block_of(kind), numbers(*shape), numbers(*told, seed=1)
    found = block(x, block.attn2(context))
    tokens = context.expand(shape[0], 1, shape[2], CONTEXT)
    for row in range(shape[0]):
        for column in range(shape[2]):
            expected = plain_block(block, x[row, :, column], tokens[row, 0, column])
            assert error(found[row, :, column], expected) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "told"), SHAPES)
def test_pieces_of_every_size_give_the_same_and_the_same_gradients(kind, shape, told):
    block = block_of(kind).double()
    x = numbers(*shape, dtype=torch.float64).requires_grad_()
    context = numbers(*told, seed=1, dtype=torch.float64).requires_grad_()
    inputs = (x, context, *(p for name, p in block.named_parameters() if has_effect(name)))
    expected, wanted = run(block, x, context, inputs)
    for tokens in [*range(1, 12), 15, 20, 24, 28, 29, 1000]:
        block.chunk.tokens = tokens
        found, gradient = run(block, x, context, inputs)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(gradient, wanted)


def run(
    block: TransformerBlock, x: Tensor, context: Tensor, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    found = block(x, block.attn2(context))
    return found, torch.autograd.grad(found.square().sum(), inputs)


@pytest.mark.parametrize(("shape", "told"), SHAPES)
def test_no_more_tokens_go_through_at_once_than_were_allowed_or_are_one_piece(shape, told):
    block, sizes = block_of(TransformerBlock), []
    block.norm1.register_forward_hook(lambda _, x, __: sizes.append(x[0][..., 0].numel()))
    for tokens in (1, 4, 9, 30):
        block.chunk.tokens = tokens
        block(numbers(*shape), block.attn2(numbers(*told)))
        B, S, M, _ = shape
        smallest = S if M == 1 else B * S  # one row of one sequence, or one column of B
        assert max(sizes) <= max(tokens, smallest)
        assert sum(sizes) == B * S * M
        sizes.clear()


@pytest.mark.parametrize("kind", KINDS)
def test_what_precedes_the_queries_of_a_single_key_has_no_effect(kind):
    block, x, context = block_of(kind), numbers(2, 4, 3, C), numbers(2, 1, 1, CONTEXT)
    before = block(x, block.attn2(context))
    found = gradients(before.square().sum(), block)
    assert {name for name, gradient in found.items() if gradient is None} == {
        name for name in found if not has_effect(name)
    }
    for name, parameter in block.named_parameters():
        if not has_effect(name):
            parameter.data.fill_(1e3)
    assert torch.equal(block(x, block.attn2(context)), before)


def has_effect(name: str) -> bool:
    return not name.startswith(("norm2.", "attn2.to_q.", "attn2.to_k."))


def test_a_sequence_does_not_see_its_neighbours():
    block, x, context = block_of(SequenceBlock), numbers(2, 4, 3, C), numbers(2, 1, 1, CONTEXT)
    moved = x.clone()
    moved[1, 2, 1] += 1
    before, after = (block(each, block.attn2(context)) for each in (x, moved))
    changed = (after != before).any(-1).any(1)
    assert changed.nonzero().tolist() == [[1, 1]]


def test_a_mixer_goes_from_before_to_after_as_its_factor_falls():
    mixer, before, after = Mixer(), numbers(3, 4), numbers(3, 4, seed=1)
    shares = {-30.0: 0.0, 0.0: 0.5, 30.0: 1.0, 1.3: 1 / (1 + 2.718281828459045**-1.3)}
    for factor, share in shares.items():
        mixer.mix_factor.data.fill_(factor)
        torch.testing.assert_close(mixer(before, after), share * before + (1 - share) * after)


def test_a_mixer_keeps_what_it_is_told_to_keep():
    mixer, before, after = with_random_weights(Mixer()), numbers(3, 4), numbers(3, 4, seed=1)
    keep = torch.tensor([False, True, False])[:, None]
    found = mixer(before, after, keep)
    assert torch.equal(found[1], before[1])
    assert torch.equal(found[::2], mixer(before, after)[::2])
