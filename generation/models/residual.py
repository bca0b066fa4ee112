"""Residual blocks: convolutions in space, then along the flat list of frames.

Letters: N = b·F frames, C channels, h × w latent pixels, E width of the embedding. The block along
frames sees [b, C, F, h·w], the same memory, and normalises over all F frames together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from generation.models.chunks import Chunk
from generation.models.normalization import GroupNorm
from generation.models.transformer import Mixer


class FrameConvolution(nn.Conv3d):
    """A convolution over three neighbouring frames at each pixel.

    Its weight is that of a 3-D convolution with kernel (3, 1, 1); it is computed as a 2-D one over
    (frame, pixel), for which every backend has a fast kernel in channels-last memory.
    """

    def __init__(self, channels: int):
        super().__init__(channels, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, input: Tensor) -> Tensor:
        """Maps [b, C, F, h·w] to the same shape."""
        return conv2d(input, self.weight.squeeze(-1), self.bias, padding=(1, 0))


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice; the embedding is added between them."""

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
            nn.Identity(),  # dropout of the published networks, which shifts the names
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        same = channels_in == channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1)

    def in_space(self, x: Tensor, emb: Tensor) -> Tensor:
        """Runs the block on each frame by itself, so that frames may go through in pieces.

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
    """The same along the frames: kernels see a frame and its two neighbours in the list."""

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
        """Runs the block.

        Args:
            x: [N, C, h, w].
            emb: [N, E].
            frames: F.

        Returns:
            [N, C, h, w].
        """
        flat = _frames_as_rows(x, frames)
        shift = self.emb_layers(emb).unflatten(0, (-1, frames)).movedim(2, 1)[..., None]
        flat = flat + self.out_layers(self.in_layers(flat) + shift)
        return _rows_as_frames(flat, x.shape)


class SpaceTimeBlock(ResidualBlock):
    """A residual block in space, blended with one along the frames."""

    def __init__(self, channels_in: int, channels: int, embedding: int):
        super().__init__(channels_in, channels, embedding)
        self.time_mixer = Mixer()

    def blend(self, x: Tensor, along_frames: Tensor, keep: Tensor | None = None) -> Tensor:
        """Mixes the features of the two parts.

        Args:
            x: of the spatial part, [N, C, h, w].
            along_frames: the same after the block along frames.
            keep: bool, [N]: frames that stay as they are in space.
        """
        mask = None if keep is None else keep[:, None, None, None]
        return self.time_mixer(x, along_frames, mask)


def _frames_as_rows(x: Tensor, frames: int) -> Tensor:
    """[b·F, C, h, w] as [b, C, F, h·w], without a copy in channels-last memory."""
    tokens = x.permute(0, 2, 3, 1).flatten(1, 2)  # [N, h·w, C]
    return tokens.unflatten(0, (-1, frames)).permute(0, 3, 1, 2)


def _rows_as_frames(x: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `_frames_as_rows`."""
    tokens = x.permute(0, 2, 3, 1).flatten(0, 1)
    return tokens.unflatten(1, shape[-2:]).permute(0, 3, 1, 2)
