"""Layers that the networks share: embeddings, normalization, residual blocks.

Letters: b batch, F frames of one network call, N = b·F, C channels, h × w latent pixels, E width of
the embedding. Features are [N, C, h, w] in channels-last memory, which is [N, h·w, C] of tokens
without a copy. Parameters are named as in the published files.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

GROUPS = 32
MAX_PERIOD = 10_000
CACHED_TOKENS = 2048  # measured on a CPU: half the time at 128 channels, a fifth less at 512


@dataclass
class Chunk:
    """Maximum number of tokens per call of a layer whose result does not depend on it.

    Attributes:
        tokens: the limit; None means all tokens on an accelerator, and as many as fit into the
            cache on a CPU.
    """

    tokens: int | None = None

    def size(self, x: Tensor) -> int:
        """Return the limit for x."""
        if self.tokens is not None:
            return self.tokens
        return CACHED_TOKENS if x.device.type == "cpu" else sys.maxsize


def sinusoidal_embedding(values: Tensor, width: int) -> Tensor:
    """Compute cos and sin of each value at width/2 frequencies that fall from 1 towards 1/10000.

    Args:
        values: any numbers (times, indices, radians), [...].
        width: even.

    Returns:
        [cos | sin], always float32, [..., width].

    Source: Vaswani et al. 2017, §3.5; order and frequencies are those of SV3D and SV4D.
    """
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=values.device) / half
    frequencies = torch.exp(-math.log(MAX_PERIOD) * exponents)
    angles = values.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def embedding_mlp(width_in: int, width: int, width_out: int) -> nn.Sequential:
    """Linear, SiLU, Linear."""
    return nn.Sequential(nn.Linear(width_in, width), nn.SiLU(), nn.Linear(width, width_out))


class GroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm` with 32 groups, exact in channels-last memory on CPUs, too.

    PyTorch's CPU kernel for channels-last memory computes the variance as E[x²] − E[x]², which
    loses digits where the mean is large. Its CUDA kernel does not and is used unchanged.
    """

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__(GROUPS, channels, eps)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize [N, C, h, w] over all pixels of each group of channels."""
        if input.device.type != "cpu":
            return super().forward(input)
        return group_norm(input, self.weight, self.bias, self.eps)


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Compute group normalization in two passes, each along the memory of a channels-last tensor.

    Args:
        x: [N, C, h, w].
        weight: [C].
        bias: [C].
        eps: added to the variance.

    Returns:
        [N, C, h, w], in channels-last memory.
    """
    pixels = x.permute(0, 2, 3, 1)
    centered = pixels - _group_mean(pixels)
    variance = _group_mean(centered.square())
    scale = torch.rsqrt(variance + eps) * weight
    return torch.addcmul(bias, centered, scale).permute(0, 3, 1, 2)


def _group_mean(pixels: Tensor) -> Tensor:
    """Mean of each channel's group over all pixels: [N, h, w, C] to [N, 1, 1, C]."""
    channel_mean = pixels.mean((1, 2), keepdim=True)  # first: along the memory
    group_mean = channel_mean.unflatten(-1, (GROUPS, -1)).mean(-1)
    return group_mean.repeat_interleave(pixels.shape[-1] // GROUPS, dim=-1)


class Mixer(nn.Module):
    """Blends the features before and after a block with a learned weight."""

    def __init__(self):
        super().__init__()
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def forward(self, before: Tensor, after: Tensor, keep: Tensor | None = None) -> Tensor:
        """Compute a · before + (1 − a) · after with a = sigmoid(mix_factor).

        Args:
            before: of any shape.
            after: of the same shape.
            keep: bool, broadcastable; where True, `before` is returned unchanged (a = 1).
        """
        share = self.mix_factor.sigmoid()
        if keep is not None:
            share = torch.where(keep, 1, share)
        # Parameters stay float32 in mixed-precision training, but lerp needs a single dtype.
        return torch.lerp(after, before.to(after.dtype), share.to(after.dtype))


class FrameConvolution(nn.Conv3d):
    """A convolution over three neighboring frames at each pixel.

    The weight is that of a 3-D convolution with kernel (3, 1, 1). It is computed as a 2-D one over
    (frame, pixel), for which every backend has a fast kernel in channels-last memory.
    """

    def __init__(self, channels: int):
        super().__init__(channels, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, input: Tensor) -> Tensor:
        """Map [b, C, F, h·w] to the same shape."""
        return conv2d(input, self.weight.squeeze(-1), self.bias, padding=(1, 0))


class ResidualBlock(nn.Module):
    """Residual block on each frame: twice norm, SiLU, convolution; the embedding added between."""

    def __init__(self, channels_in: int, channels: int, embedding: int):
        super().__init__()
        self.chunk = Chunk()
        self.in_layers = nn.Sequential(
            GroupNorm(channels_in),
            nn.SiLU(),
            nn.Conv2d(channels_in, channels, 3, padding=1),
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, channels))
        self.out_layers = nn.Sequential(
            GroupNorm(channels),
            nn.SiLU(),
            nn.Identity(),  # dropout in the published networks; keeps their parameter names
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        same = channels_in == channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1)

    def in_space(self, x: Tensor, emb: Tensor) -> Tensor:
        """Run the block on each frame separately, in chunks where memory is short.

        Args:
            x: [N, channels_in, h, w].
            emb: [N, E].

        Returns:
            [N, channels, h, w].
        """
        frames = max(1, self.chunk.size(x) // x[0, 0].numel())
        if len(x) <= frames:
            return self._in_space(x, emb)
        pieces = zip(x.split(frames), emb.split(frames), strict=True)
        return torch.cat([self._in_space(*piece) for piece in pieces])

    def _in_space(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class FrameBlock(nn.Module):
    """A residual block along the flat list of frames, normalized over all F frames together."""

    def __init__(self, channels: int, embedding: int):
        super().__init__()
        self.in_layers = nn.Sequential(GroupNorm(channels), nn.SiLU(), FrameConvolution(channels))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, channels))
        self.out_layers = nn.Sequential(
            GroupNorm(channels),
            nn.SiLU(),
            nn.Identity(),
            FrameConvolution(channels),
        )

    def forward(self, x: Tensor, emb: Tensor, frames: int) -> Tensor:
        """Run the block.

        Args:
            x: [N, C, h, w].
            emb: [N, E].
            frames: number of frames F.

        Returns:
            [N, C, h, w].
        """
        rows = _frames_as_rows(x, frames)
        shift = self.emb_layers(emb).unflatten(0, (-1, frames)).movedim(2, 1)[..., None]
        rows = rows + self.out_layers(self.in_layers(rows) + shift)
        return _rows_as_frames(rows, x.shape)


class SpaceTimeBlock(ResidualBlock):
    """A residual block in space, blended with one along the frames."""

    def __init__(self, channels_in: int, channels: int, embedding: int):
        super().__init__(channels_in, channels, embedding)
        self.time_mixer = Mixer()

    def blend(self, x: Tensor, along_frames: Tensor, keep: Tensor | None = None) -> Tensor:
        """Mix the features of the two parts.

        Args:
            x: output of the spatial part, [N, C, h, w].
            along_frames: output of the block along the frames, [N, C, h, w].
            keep: frames that keep their spatial features, bool, [N]; None for none.
        """
        mask = None if keep is None else keep[:, None, None, None]
        return self.time_mixer(x, along_frames, mask)


def pixels_as_tokens(x: Tensor) -> Tensor:
    """View [N, C, h, w] as [N, h·w, C], without a copy in channels-last memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def tokens_as_pixels(tokens: Tensor, height: int, width: int) -> Tensor:
    """View [N, h·w, C] as [N, C, h, w]; the inverse of `pixels_as_tokens`."""
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def _frames_as_rows(x: Tensor, frames: int) -> Tensor:
    """View [b·F, C, h, w] as [b, C, F, h·w], without a copy in channels-last memory."""
    return pixels_as_tokens(x).unflatten(0, (-1, frames)).permute(0, 3, 1, 2)


def _rows_as_frames(x: Tensor, shape: torch.Size) -> Tensor:
    """View [b, C, F, h·w] as [b·F, C, h, w]; the inverse of `_frames_as_rows`."""
    return tokens_as_pixels(x.permute(0, 2, 3, 1).flatten(0, 1), *shape[-2:])
