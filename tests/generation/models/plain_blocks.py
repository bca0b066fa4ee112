"""Plain transformer blocks: one sequence and one head at a time, in float64."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from generation.models.transformer import (
    FeedForward,
    SelfAttention,
    SequenceBlock,
    SingleKeyAttention,
    TransformerBlock,
)


def plain_attention(
    layer: SelfAttention | SingleKeyAttention, queries: Tensor, keys: Tensor, head: int
) -> Tensor:
    """Compute softmax(q kᵀ / √d) v of [S, C] and [K, C′] tokens, per head of `head` channels."""
    q, k, v = linear(layer.to_q, queries), linear(layer.to_k, keys), linear(layer.to_v, keys)
    heads = []
    for part in (slice(start, start + head) for start in range(0, q.shape[1], head)):
        weights = (q[:, part] @ k[:, part].T / math.sqrt(head)).exp()
        heads.append(weights / weights.sum(1, keepdim=True) @ v[:, part])
    return linear(layer.to_out[0], torch.cat(heads, 1))


def plain_feed_forward(layer: FeedForward, x: Tensor) -> Tensor:
    """Compute value · GELU(gate) with the error function."""
    value, gate = linear(layer.net[0].proj, x).chunk(2, -1)  # type: ignore[arg-type]
    return linear(layer.net[2], value * gate * (1 + torch.erf(gate / math.sqrt(2))) / 2)


def plain_block(block: TransformerBlock, x: Tensor, token: Tensor) -> Tensor:
    """Compute a block on one sequence [S, C] conditioned on one token [C′]."""
    head = block.attn1.head_channels
    x = x.double()
    if isinstance(block, SequenceBlock):
        x = x + plain_feed_forward(block.ff_in, normed(block.norm_in, x))
    queries = normed(block.norm1, x)
    x = x + plain_attention(block.attn1, queries, queries, head)
    x = x + plain_attention(block.attn2, normed(block.norm2, x), token.double()[None], head)
    return x + plain_feed_forward(block.ff, normed(block.norm3, x))


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(layer, nn.Linear)
    result = x.double() @ layer.weight.double().T
    return result if layer.bias is None else result + layer.bias.double()


def normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    weight, bias = norm.weight.double(), norm.bias.double()
    return layer_norm(x, x.shape[-1:], weight, bias, eps=1e-5)
