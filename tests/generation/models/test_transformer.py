"""Attention, feed-forward and transformer blocks against plain computations."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from generation.models import transformer
from generation.models.layers import Mixer
from generation.models.transformer import (
    FeedForward,
    SelfAttention,
    SequenceBlock,
    SingleKeyAttention,
    TransformerBlock,
    attend,
)
from tests.generation.models.plain_blocks import plain_attention, plain_block, plain_feed_forward
from tests.generation.models.random_weights import error, gradients, numbers, with_random_weights

T, V, P, C, HEAD = 3, 4, 6, 16, 8
AXES = {  # as `attention` says that a grid is viewed
    "pixels": (T * V, P, 1, C),
    "views": (T, V, P, C),
    "times": (1, T, V * P, C),
    "times of two clips": (2, T, V * P, C),
    "one of everything": (1, 1, 1, C),
}


@pytest.fixture
def layer() -> SelfAttention:
    return with_random_weights(SelfAttention(C, HEAD))


@pytest.mark.parametrize("shape", AXES.values(), ids=AXES)
def test_every_sequence_is_attended_to_by_itself(layer: SelfAttention, shape: tuple[int, ...]):
    x = numbers(*shape)
    found = layer(x)
    assert found.shape == x.shape
    for row in range(shape[0]):
        for column in range(shape[2]):
            sequence = x[row, :, column]
            expected = plain_attention(layer, sequence, sequence, HEAD)
            assert error(found[row, :, column], expected) < 1e-5


@pytest.mark.parametrize("shape", AXES.values(), ids=AXES)
def test_values_and_gradients_are_those_of_torchs_own_module(
    layer: SelfAttention, shape: tuple[int, ...]
):
    x = numbers(*shape).requires_grad_()
    found = layer(x)
    found.square().sum().backward()
    assert x.grad is not None
    other = torchs_own(layer)
    y = x.detach().double().requires_grad_()
    sequences = y.transpose(1, 2).flatten(0, 1)
    expected = other(sequences, sequences, sequences, need_weights=False)[0]
    expected = expected.unflatten(0, (shape[0], shape[2])).transpose(1, 2)
    expected.square().sum().backward()
    assert y.grad is not None
    assert error(found, expected) < 1e-5
    assert error(x.grad, y.grad) < 1e-5
    assert isinstance(other.in_proj_weight.grad, Tensor)
    for part, expected_part in zip(
        (layer.to_q, layer.to_k, layer.to_v), other.in_proj_weight.grad.chunk(3), strict=True
    ):
        assert part.weight.grad is not None
        scale = float(other.in_proj_weight.grad.abs().max())
        assert float((part.weight.grad - expected_part).abs().max()) < 1e-5 * scale


def torchs_own(layer: SelfAttention) -> nn.MultiheadAttention:
    other = nn.MultiheadAttention(C, C // HEAD, batch_first=True, dtype=torch.float64)
    out = layer.to_out[0]
    other.load_state_dict(
        {
            "in_proj_weight": torch.cat([layer.to_q.weight, layer.to_k.weight, layer.to_v.weight]),
            "in_proj_bias": torch.zeros(3 * C),
            "out_proj.weight": out.weight,
            "out_proj.bias": out.bias,
        }
    )
    return other


def test_the_sequence_may_be_in_any_order(layer: SelfAttention):
    x, order = numbers(2, 5, 3, C), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])


def test_heads_are_split_without_a_copy(layer: SelfAttention, monkeypatch: pytest.MonkeyPatch):
    """The attention kernel gets the memory of the projections, not a copy."""
    written: list[int] = []
    read: list[int] = []

    def recording(*tensors: Tensor) -> Tensor:
        read.extend(tensor.data_ptr() for tensor in tensors)
        return attend(*tensors)

    monkeypatch.setattr(transformer, "attend", recording)
    for part in (layer.to_q, layer.to_k, layer.to_v):
        part.register_forward_hook(lambda _, __, output: written.append(output.data_ptr()))
    layer(numbers(2, T, V * P, C))
    assert read == written


@pytest.mark.parametrize("context_channels", [C, 4])
def test_one_key_is_attended_to_alike_by_all_queries(context_channels: int):
    layer = with_random_weights(SingleKeyAttention(C, context_channels))
    tokens = numbers(3, context_channels)
    found = layer(tokens)
    for token, row in zip(tokens, found, strict=True):
        expected = plain_attention(layer, 10 * numbers(7, C, seed=1), token[None], HEAD)
        assert error(row.expand(7, -1), expected) < 1e-5


def test_queries_and_keys_get_no_gradient_where_there_is_one_key():
    layer = with_random_weights(SingleKeyAttention(C, 4))
    found = gradients(layer(numbers(3, 4)).square().sum(), layer)
    assert {name for name, gradient in found.items() if gradient is None} == {
        "to_q.weight",
        "to_k.weight",
    }


@pytest.mark.parametrize("axis", [0, 1])
def test_an_accelerator_gets_no_more_sequences_at_once_than_its_grid_has_blocks(
    axis: int, monkeypatch: pytest.MonkeyPatch
):
    """Run on the meta device, whose tensors have only shapes."""
    shapes: list[torch.Size] = []
    real = transformer.scaled_dot_product_attention

    def recording(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shapes.extend(tensor.shape for tensor in (q, k, v))
        return real(q, k, v)

    monkeypatch.setattr(transformer, "scaled_dot_product_attention", recording)
    monkeypatch.setattr(transformer, "MAX_CUDA_BLOCKS", 7)
    sizes = [3, 3, 5, HEAD]
    sizes[axis] = 16
    q, k, v = torch.empty(3, *sizes, device="meta")
    assert attend(q, k, v).shape == q.shape
    assert [shape[axis] for shape in shapes[::3]] == [7, 7, 2]
    assert all(shape == shapes[3 * (index // 3)] for index, shape in enumerate(shapes))


LENGTHS = {
    torch.float32: (5, transformer.SHORT, transformer.SHORT + 1),
    torch.bfloat16: (5, transformer.SHORT_BFLOAT16, transformer.SHORT_BFLOAT16 + 1),
}


@pytest.mark.parametrize(
    ("dtype", "length"), [(dtype, length) for dtype in LENGTHS for length in LENGTHS[dtype]]
)
def test_gradients_are_those_of_plain_attention_for_any_length(dtype: torch.dtype, length: int):
    inputs = [numbers(3, 2, length, HEAD, seed=seed).to(dtype) for seed in range(3)]

    def found(attended: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        tensors = [each.to(dtype).requires_grad_() for each in inputs]
        attended(*tensors).square().sum().backward()
        return [each.grad for each in tensors if each.grad is not None]

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT / HEAD**0.5).softmax(-1) @ v

    expected = found(plain, torch.float64)
    for gradient, exact in zip(found(attend, dtype), expected, strict=True):
        if dtype == torch.float32:
            torch.testing.assert_close(gradient.double(), exact, rtol=1e-4, atol=1e-5)
        else:
            assert (gradient - exact).norm() < 0.02 * exact.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("axis", [0, 1])
def test_more_sequences_than_a_cuda_grid_has_blocks_give_what_a_cpu_gives(axis: int):
    sizes = [2, 2, 3, HEAD]
    sizes[axis] = transformer.MAX_CUDA_BLOCKS + 5
    q, k, v = numbers(3, *sizes)
    found = attend(q.cuda(), k.cuda(), v.cuda())
    torch.testing.assert_close(found.cpu(), attend(q, k, v), rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("S", [5, 16, 64, 256])
def test_gradients_on_cuda_are_those_of_a_cpu(S: int):
    values = numbers(3, 64, 8, S, 32)
    found, expected = (
        _gradients([each.to(device, torch.bfloat16) for each in values])
        for device in ("cuda", "cpu")
    )
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine.cpu().float() - theirs.float()).norm() < 0.02 * theirs.float().norm()


def _gradients(values: list[Tensor]) -> tuple[Tensor, ...]:
    """Compute the gradients of the output's sum of squares."""
    inputs = [each.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for each in values]
    return torch.autograd.grad(attend(*inputs).float().square().sum(), inputs)


def test_geglu_is_its_formula_with_the_exact_gelu():
    layer, x = with_random_weights(FeedForward(C)), numbers(5, C)
    assert error(layer(x), plain_feed_forward(layer, x)) < 1e-6


@pytest.mark.parametrize("shape", [(7, C), (2, 3, 1, C), (2, 2, 3, C), (1, C)])
def test_chunks_of_the_feed_forward_give_the_same_and_the_same_gradients(shape: tuple[int, ...]):
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


def test_no_chunk_of_the_feed_forward_has_more_tokens_than_the_limit():
    layer, sizes = FeedForward(C), []
    layer.net[0].register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    layer.chunk.tokens = 4
    layer(numbers(2, 5, C))
    assert sizes == [4, 4, 2]


def test_chunks_may_be_of_tokens_that_are_not_contiguous():
    layer, x = with_random_weights(FeedForward(C)), numbers(4, 3, C).transpose(0, 1)
    expected = layer(x)
    layer.chunk.tokens = 5
    torch.testing.assert_close(layer(x), expected)


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
@pytest.mark.parametrize(("shape", "context_shape"), SHAPES)
def test_a_block_is_the_plain_one_of_each_sequence_and_its_token(kind, shape, context_shape):
    block, x, context = block_of(kind), numbers(*shape), numbers(*context_shape, seed=1)
    found = block(x, block.attn2(context))
    tokens = context.expand(shape[0], 1, shape[2], CONTEXT)
    for row in range(shape[0]):
        for column in range(shape[2]):
            expected = plain_block(block, x[row, :, column], tokens[row, 0, column])
            assert error(found[row, :, column], expected) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "context_shape"), SHAPES)
def test_chunks_of_blocks_give_the_same_and_the_same_gradients(kind, shape, context_shape):
    block = block_of(kind).double()
    x = numbers(*shape, dtype=torch.float64).requires_grad_()
    context = numbers(*context_shape, seed=1, dtype=torch.float64).requires_grad_()
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


@pytest.mark.parametrize(("shape", "context_shape"), SHAPES)
def test_no_chunk_of_a_block_has_more_tokens_than_the_limit_or_one_sequence(shape, context_shape):
    block, sizes = block_of(TransformerBlock), []
    block.norm1.register_forward_hook(lambda _, x, __: sizes.append(x[0][..., 0].numel()))
    for tokens in (1, 4, 9, 30):
        block.chunk.tokens = tokens
        block(numbers(*shape), block.attn2(numbers(*context_shape)))
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


def test_sequences_are_independent():
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


def test_a_mixer_keeps_masked_features():
    mixer, before, after = with_random_weights(Mixer()), numbers(3, 4), numbers(3, 4, seed=1)
    keep = torch.tensor([False, True, False])[:, None]
    found = mixer(before, after, keep)
    assert torch.equal(found[1], before[1])
    assert torch.equal(found[::2], mixer(before, after)[::2])
