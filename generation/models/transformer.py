"""Transformer blocks: self-attention, cross-attention to a single token, GEGLU feed-forward.

Letters: S length of a sequence, B × M sequences (batch axes before and after S), C = heads · d
channels. Tokens are [B, S, M, C] and attention runs along S. The axis of a grid that is S depends
on how the same memory is viewed: pixels [N, h·w, 1, C], views [b·T, V, h·w, C], times
[b, T, V·h·w, C]. No axis is ever permuted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import conv2d, gelu, linear, scaled_dot_product_attention

from generation.models.layers import Chunk

EXPANSION = 4  # hidden width of the feed-forward layer as a multiple of its channels
ROW = 32  # tokens per row of the convolution in `token_linear`; rows of one token are slow
SHORT = 64  # up to this many tokens, torch's fused CPU kernel has the slower backward pass
SHORT_BFLOAT16 = 256  # the same in bfloat16, against three plain operations
# The backends whose gradients are always finite; those of cuDNN, which torch prefers on an H100,
# are not (https://github.com/pytorch/pytorch/issues/196678).
FINITE = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
MAX_CUDA_BLOCKS = 65_535  # along a launch grid's second and third axis: sequences per kernel call


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute softmax attention of [B, H, S, d] tensors of any strides.

    Inputs with more sequences than a CUDA launch grid has blocks are split. In training, short
    sequences on a CPU use an unfused kernel, or plain operations in bfloat16, and cuDNN is avoided
    on CUDA.

    Returns:
        [B, H, S, d].
    """
    if not q.requires_grad:
        return _attend_in_chunks(q, k, v)
    on_cpu = q.device.type == "cpu"
    if on_cpu and q.dtype == torch.bfloat16 and q.shape[2] <= SHORT_BFLOAT16:
        return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1).to(v.dtype) @ v
    short = on_cpu and q.shape[2] <= SHORT
    with sdpa_kernel(SDPBackend.MATH if short else FINITE):
        return _attend_in_chunks(q, k, v)


def _attend_in_chunks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    axis = 0 if q.shape[0] > q.shape[1] else 1
    if q.device.type == "cpu" or q.shape[axis] <= MAX_CUDA_BLOCKS:
        return scaled_dot_product_attention(q, k, v)
    pieces = zip(*(x.split(MAX_CUDA_BLOCKS, dim=axis) for x in (q, k, v)), strict=True)
    return torch.cat([scaled_dot_product_attention(*piece) for piece in pieces], dim=axis)


class SelfAttention(nn.Module):
    """Multi-head self-attention; q, k and v without bias, the output with one."""

    def __init__(self, channels: int, head_channels: int):
        super().__init__()
        self.head_channels = head_channels
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Attend along axis 1 of [B, S, M, C]."""
        q, k, v = (self._split_heads(layer(x)) for layer in (self.to_q, self.to_k, self.to_v))
        return self.to_out(attend(q, k, v).transpose(1, 2).reshape(x.shape))

    def _split_heads(self, x: Tensor) -> Tensor:
        """View [B, S, M, C] as [B, M·heads, S, d], without a copy."""
        return x.view(*x.shape[:2], -1, self.head_channels).transpose(1, 2)


class SingleKeyAttention(nn.Module):
    """Cross-attention to a context of one token.

    The softmax over one key is 1 whatever the query, so the result is a linear map of the context,
    the same for all queries. `to_q` and `to_k` are in the published files but have no effect.
    """

    def __init__(self, channels: int, context_channels: int):
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, context: Tensor) -> Tensor:
        """Map [..., context_channels] to [..., C]."""
        return self.to_out(self.to_v(context))


class TokenLinear(nn.Linear):
    """`torch.nn.Linear` through `token_linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [tokens, in_features] to [tokens, out_features]."""
        return token_linear(input, self.weight, self.bias)


def token_linear(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a linear map to each token.

    In float32 on a CPU this is a 1×1 convolution over rows of tokens: oneDNN's kernels for it are a
    tenth faster than MKL's matrix products, and they add the bias in the same pass.
    """
    if tokens.device.type != "cpu" or tokens.dtype != torch.float32:
        return linear(tokens, weight, bias)
    rows = tokens.view(1, -1, math.gcd(len(tokens), ROW), tokens.shape[-1])
    pixels = conv2d(rows.permute(0, 3, 1, 2), weight[:, :, None, None], bias)
    return pixels.permute(0, 2, 3, 1).reshape(len(tokens), -1)


class GatedProjection(nn.Module):
    """GEGLU: value · GELU(gate), both linear in the input, with the exact GELU.

    Source: Shazeer 2020, "GLU Variants Improve Transformer", GEGLU.
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [tokens, C] to [tokens, width].

        Value and gate are computed by two matrix products, so that both are contiguous.
        """
        weights, biases = self.proj.weight.chunk(2), self.proj.bias.chunk(2)
        value, gate = map(token_linear, (x, x), weights, biases)
        return value * gelu(gate)


class FeedForward(nn.Module):
    """Feed-forward layer: GEGLU, then a linear map back to C channels, for each token."""

    def __init__(self, channels: int):
        super().__init__()
        width = EXPANSION * channels
        self.net = nn.Sequential(
            GatedProjection(channels, width), nn.Identity(), TokenLinear(width, channels)
        )
        self.chunk = Chunk()

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., C] to [..., C]; the intermediate features take 12 times the input's memory."""
        tokens = x.reshape(-1, x.shape[-1])
        chunk = self.chunk.size(x)
        if len(tokens) <= chunk:
            return self.net(tokens).view(x.shape)
        return torch.cat([self.net(piece) for piece in tokens.split(chunk)]).view(x.shape)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to one token, feed-forward, each with a residual connection.

    `norm2` normalizes the queries of the cross-attention, which have no effect.
    """

    def __init__(self, channels: int, head_channels: int, context_channels: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = SelfAttention(channels, head_channels)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = SingleKeyAttention(channels, context_channels)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)
        self.chunk = Chunk()

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """Run the block, in chunks of whole sequences where memory is short.

        Args:
            x: tokens, [B, S, M, C].
            attended: `attn2` of the context, broadcast against x. The caller computes it because it
                does not depend on x, and contexts are few while tokens are many.

        Returns:
            [B, S, M, C].
        """
        (B, S, M), chunk = x.shape[:3], self.chunk.size(x)
        if chunk >= B * S * M or B == M == 1:
            return self._block(x, attended)
        axis = 0 if M == 1 or chunk >= S * M else 2
        length = max(1, chunk // (S * M if axis == 0 else S * B))
        results = []
        for start in range(0, x.shape[axis], length):
            stop = start + length
            results.append(
                self._block(_cut(x, axis, start, stop), _cut(attended, axis, start, stop))
            )
        return torch.cat(results, dim=axis)

    def _block(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + attended
        return x + self.ff(self.norm3(x))


def _cut(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """Slice an axis; an axis of length 1 is broadcast and stays whole."""
    if x.shape[axis] == 1:
        return x
    return x.narrow(axis, start, min(stop, x.shape[axis]) - start)


class SequenceBlock(TransformerBlock):
    """Transformer block along frames, views or times, with another feed-forward layer in front."""

    def __init__(self, channels: int, head_channels: int, context_channels: int):
        super().__init__(channels, head_channels, context_channels)
        self.norm_in = nn.LayerNorm(channels)
        self.ff_in = FeedForward(channels)

    def _block(self, x: Tensor, attended: Tensor) -> Tensor:
        return super()._block(x + self.ff_in(self.norm_in(x)), attended)
