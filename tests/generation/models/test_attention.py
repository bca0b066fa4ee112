"""Attention runs along one axis and nowhere else, whatever lies beside it in memory."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from generation.models import attention
from generation.models.attention import SelfAttention, SingleKeyAttention, attend
from tests.generation.models.plain_blocks import plain_attention
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
    """What the kernel gets is the memory that the projections wrote."""
    written: list[int] = []
    read: list[int] = []

    def recording(*tensors: Tensor) -> Tensor:
        read.extend(tensor.data_ptr() for tensor in tensors)
        return attend(*tensors)

    monkeypatch.setattr(attention, "attend", recording)
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
    """On the meta device, whose tensors have shapes only."""
    shapes: list[torch.Size] = []
    real = attention.scaled_dot_product_attention

    def recording(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shapes.extend(tensor.shape for tensor in (q, k, v))
        return real(q, k, v)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", recording)
    monkeypatch.setattr(attention, "MAX_CUDA_BLOCKS", 7)
    sizes = [3, 3, 5, HEAD]
    sizes[axis] = 16
    q, k, v = torch.empty(3, *sizes, device="meta")
    assert attend(q, k, v).shape == q.shape
    assert [shape[axis] for shape in shapes[::3]] == [7, 7, 2]
    assert all(shape == shapes[3 * (index // 3)] for index, shape in enumerate(shapes))


@pytest.mark.parametrize("length", [5, attention.SHORT, attention.SHORT + 1])
def test_gradients_are_those_of_plain_sums_whatever_the_length(length: int):
    inputs = [numbers(3, 2, length, HEAD, seed=seed) for seed in range(3)]

    def found(attended: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        tensors = [each.to(dtype).requires_grad_() for each in inputs]
        attended(*tensors).square().sum().backward()
        return [each.grad for each in tensors if each.grad is not None]

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT / HEAD**0.5).softmax(-1) @ v

    expected = found(plain, torch.float64)
    for gradient, exact in zip(found(attend, torch.float32), expected, strict=True):
        torch.testing.assert_close(gradient.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("axis", [0, 1])
def test_more_sequences_than_a_cuda_grid_has_blocks_give_what_a_cpu_gives(axis: int):
    sizes = [2, 2, 3, HEAD]
    sizes[axis] = attention.MAX_CUDA_BLOCKS + 5
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
    """Of the sum of squares of what comes out."""
    inputs = [each.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for each in values]
    return torch.autograd.grad(attend(*inputs).float().square().sum(), inputs)
