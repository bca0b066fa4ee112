"""Attention along one axis of tokens, through `scaled_dot_product_attention` only.

Letters: B sequences side by side in the slow axis, S their length, M more of them side by side in
the fast axis, C = heads · d channels. Which of a grid's axes is S is decided by how it is viewed:
pixels [N, h·w, 1, C], views [b·T, V, h·w, C], times [b, T, V·h·w, C]. No axis is ever moved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

SHORT = 64  # tokens up to which torch's fused CPU kernel is slower than plain sums, backwards
# Whose gradients are finite: those of cuDNN, which torch prefers on an H100, are not always
# (https://github.com/pytorch/pytorch/issues/196678).
FINITE = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
MAX_CUDA_BLOCKS = 65_535  # of a grid's second and third axis: sequences of one kernel call


class SelfAttention(nn.Module):
    """Multi-head self-attention; q, k, v without bias, the output with one."""

    def __init__(self, channels: int, head_channels: int):
        super().__init__()
        self.head_channels = head_channels
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Attends along axis 1 of [B, S, M, C]."""
        q, k, v = (self._split_heads(layer(x)) for layer in (self.to_q, self.to_k, self.to_v))
        return self.to_out(attend(q, k, v).transpose(1, 2).reshape(x.shape))

    def _split_heads(self, x: Tensor) -> Tensor:
        """[B, S, M, C] as [B, M·heads, S, d], the same memory."""
        return x.view(*x.shape[:2], -1, self.head_channels).transpose(1, 2)


class SingleKeyAttention(nn.Module):
    """Cross-attention to a context of one token.

    The softmax over one key is 1 whatever the query, so the result is a linear map of the context,
    the same for all queries. `to_q` and `to_k` are in the published files and have no effect.
    """

    def __init__(self, channels: int, context_channels: int):
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, context: Tensor) -> Tensor:
        """Maps [..., context_channels] to [..., C]."""
        return self.to_out(self.to_v(context))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention of [B, H, S, d] tensors of any strides; [B, H, S, d].

    In pieces where there are more sequences than a CUDA kernel's grid may have blocks. Where it is
    trained: on a CPU with plain sums if sequences are short, on CUDA not by cuDNN.
    """
    if not q.requires_grad:
        return _in_pieces(q, k, v)
    short = q.device.type == "cpu" and q.shape[2] <= SHORT
    with sdpa_kernel(SDPBackend.MATH if short else FINITE):
        return _in_pieces(q, k, v)


def _in_pieces(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    axis = 0 if q.shape[0] > q.shape[1] else 1
    if q.device.type == "cpu" or q.shape[axis] <= MAX_CUDA_BLOCKS:
        return scaled_dot_product_attention(q, k, v)
    pieces = zip(*(x.split(MAX_CUDA_BLOCKS, dim=axis) for x in (q, k, v)), strict=True)
    return torch.cat([scaled_dot_product_attention(*piece) for piece in pieces], dim=axis)
