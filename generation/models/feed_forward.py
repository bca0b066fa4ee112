"""The feed-forward of every transformer block: GEGLU, four times as wide inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from generation.models.chunks import Chunk

WIDENING = 4


class GatedProjection(nn.Module):
    """value · GELU(gate), both linear in the input; GELU is the exact one.

    Source: Shazeer 2020, "GLU Variants Improve Transformer", GEGLU.
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, C] to [tokens, width].

        Two products, not the halves of one: what is element by element then runs along the memory.
        """
        weights, biases = self.proj.weight.chunk(2), self.proj.bias.chunk(2)
        value, gate = map(linear, (x, x), weights, biases)
        return value * gelu(gate)


class FeedForward(nn.Module):
    """GEGLU and back, on each token by itself."""

    def __init__(self, channels: int):
        super().__init__()
        width = WIDENING * channels
        self.net = nn.Sequential(
            GatedProjection(channels, width), nn.Identity(), nn.Linear(width, channels)
        )
        self.chunk = Chunk()

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C]; inside, a token is 12 times as large."""
        tokens = x.reshape(-1, x.shape[-1])
        chunk = self.chunk.size(x)
        if len(tokens) <= chunk:
            return self.net(tokens).view(x.shape)
        return torch.cat([self.net(piece) for piece in tokens.split(chunk)]).view(x.shape)
