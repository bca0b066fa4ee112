"""What the structure condition branches share: their input, their interface, their blocks.

A branch turns the coarse grid and the input video into features for places of the frozen UNet (see
`injection`). It ends at each place in a 1×1 convolution that is zero at first, so that a fresh
branch changes nothing.

Letters: b batch, T times, V views, N = b·T·V frames with the time outermost, c channels of a
latent, C of a feature, h × w pixels of the fine latents; level l has 1/2ˡ of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from generation.models.appearance_propagation import ROLES
from generation.models.injection import Inject, Place
from generation.models.normalization import GroupNorm
from generation.models.sv4d import SV4DConfig, SV4DUNet


class Structure(NamedTuple):
    """What a branch is told, as latents that are not scaled.

    Attributes:
        coarse: of the coarse grid, of any size, [b, T, V, c, height, width].
        video: of the input video, [b, T, c, h, w].
    """

    coarse: Tensor
    video: Tensor

    def frames(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Both as the layers take them, of one size: [N, c, h, w] and [b·T, c, h, w]."""
        video = self.video.flatten(0, 1).to(dtype, memory_format=torch.channels_last)
        coarse = self.coarse.flatten(0, 2).to(dtype, memory_format=torch.channels_last)
        if coarse.shape[-2:] != video.shape[-2:]:
            coarse = interpolate(coarse, video.shape[-2:], mode="bilinear", align_corners=False)
        return coarse, video


class StructureBranch(nn.Module, ABC):
    """The interface.

    Attributes:
        name: by which `structure_branch.build_branch` makes it.
        config: of the UNet whose features it adds to.
        roles: of its MAP modules, a key of `ROLES`.
    """

    name: str

    def __init__(self, config: SV4DConfig, roles: str):
        super().__init__()
        self.config = config
        self.roles = roles

    @abstractmethod
    def forward(self, structure: Structure) -> Inject:
        """What the UNet's `inject` takes; one result serves all steps and all of guidance.

        Args:
            structure: h and w divisible by `config.downsampling`.
        """

    def start_from(self, unet: SV4DUNet) -> None:
        """Takes over what the branch has from the base network before training: most, nothing."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters and the features."""
        return next(self.parameters()).dtype


class VideoPyramid(nn.Module):
    """F_ref: the input video's latents at the size and width of each level."""

    def __init__(self, config: SV4DConfig):
        super().__init__()
        widths = level_widths(config)
        self.first = nn.Conv2d(config.out_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Conv2d(finer, coarser, 3, stride=2, padding=1))
            for finer, coarser in pairwise(widths)
        )

    def forward(self, video: Tensor) -> list[Tensor]:
        """[b·T, c, h, w] to [b·T, C_l, h/2ˡ, w/2ˡ] for each level l."""
        levels = [self.first(video)]
        for down in self.down:
            levels.append(down(levels[-1]))
        return levels


class ConvolutionBlock(nn.Module):
    """Norm, SiLU, convolution, twice, added to the input; each frame by itself."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            GroupNorm(channels_in),
            nn.SiLU(),
            nn.Conv2d(channels_in, channels, 3, padding=1),
            GroupNorm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        same = channels_in == channels
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels_in, h, w] to [N, channels, h, w]."""
        return self.skip(x) + self.layers(x)


class Outlet(nn.Module):
    """What stands at every place: MAP, and the convolution that is zero at first."""

    def __init__(self, place: Place, config: SV4DConfig, roles: str):
        super().__init__()
        reference = level_widths(config)[place.level]
        self.propagate = ROLES[roles](place.channels, reference, config.num_head_channels)
        self.out = zero_convolution(place.channels)


def zero_convolution(channels: int) -> nn.Conv2d:
    """A 1×1 convolution whose result is zero until it is trained."""
    convolution = nn.Conv2d(channels, channels, 1)
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def level_widths(config: SV4DConfig) -> list[int]:
    """Channels of the UNet's levels."""
    return [multiple * config.model_channels for multiple in config.channel_mult]
