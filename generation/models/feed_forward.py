"""The feed-forward of every transformer block: GEGLU, four times as wide inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

WIDENING = 4


class GatedProjection(nn.Module):
    """value · GELU(gate), both linear in the input; GELU is the exact one.

    Source: Shazeer 2020, "GLU Variants Improve Transformer", GEGLU.
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., width]."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * gelu(gate)


class FeedForward(nn.Module):
    """GEGLU and back, on each token by itself.

    Attributes:
        chunk_tokens: how many tokens go through at once; all of them if None. The result does not
            depend on it, the memory does: inside, a token is 12 times as large.
    """

    def __init__(self, channels: int):
        super().__init__()
        width = WIDENING * channels
        self.chunk_tokens: int | None = None
        self.net = nn.Sequential(
            GatedProjection(channels, width), nn.Identity(), nn.Linear(width, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C]."""
        tokens = x.reshape(-1, x.shape[-1])
        if self.chunk_tokens is None or len(tokens) <= self.chunk_tokens:
            return self.net(x)
        pieces = [self.net(piece) for piece in tokens.split(self.chunk_tokens)]
        return torch.cat(pieces).view(x.shape)
