"""The feed-forward of every transformer block: GEGLU, four times as wide inside."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, linear

from generation.models.chunks import Chunk

WIDENING = 4
ROW = 32  # tokens; with rows of one, convolutions are slow


class TokenLinear(nn.Linear):
    """`torch.nn.Linear` for tokens, through `token_linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """[tokens, in_features] to [tokens, out_features]."""
        return token_linear(input, self.weight, self.bias)


def token_linear(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear map of each token.

    In float32 on a CPU it is a 1×1 convolution over rows of tokens: oneDNN's kernels for it reach a
    tenth more than MKL's matrix products here, and add the bias on the way.
    """
    if tokens.device.type != "cpu" or tokens.dtype != torch.float32:
        return linear(tokens, weight, bias)
    rows = tokens.view(1, -1, math.gcd(len(tokens), ROW), tokens.shape[-1])
    pixels = conv2d(rows.permute(0, 3, 1, 2), weight[:, :, None, None], bias)
    return pixels.permute(0, 2, 3, 1).reshape(len(tokens), -1)


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
        value, gate = map(token_linear, (x, x), weights, biases)
        return value * gelu(gate)


class FeedForward(nn.Module):
    """GEGLU and back, on each token by itself."""

    def __init__(self, channels: int):
        super().__init__()
        width = WIDENING * channels
        self.net = nn.Sequential(
            GatedProjection(channels, width), nn.Identity(), TokenLinear(width, channels)
        )
        self.chunk = Chunk()

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C]; inside, a token is 12 times as large."""
        tokens = x.reshape(-1, x.shape[-1])
        chunk = self.chunk.size(x)
        if len(tokens) <= chunk:
            return self.net(tokens).view(x.shape)
        return torch.cat([self.net(piece) for piece in tokens.split(chunk)]).view(x.shape)
