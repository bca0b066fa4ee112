"""Structure condition branches, which condition the frozen SV4D on a coarse grid like a ControlNet.

The fine stage of the cascade calls

    unet(x, noise, vector, context, reference, feature_residuals=branch(structure))

A branch turns the coarse grid and the input video into residuals for features of the UNet
(`unet.FeaturePoint`). Every residual is the output of a zero convolution, so that
an untrained branch changes nothing. `build_branch` builds the paper's branch and its ablations.

Letters: b batch, T times, V views, N = b·T·V frames with the time outermost, c channels of a
latent, C of a feature, h × w pixels of the fine latents; level l has 1/2ˡ of them.

Source: 4DVD, §3.4 and §5.5.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from generation.models.appearance_propagation import ROLES
from generation.models.layers import GroupNorm
from generation.models.sv4d import SV4DConditions, SV4DConfig, SV4DUNet
from generation.models.unet import (
    Downsample,
    FeaturePoint,
    FeatureResiduals,
    Upsample,
    add_residual,
    input_points,
    middle_point,
    run_block,
    skip_points,
    upsampled_points,
)
from recon.errors import InputError


class Structure(NamedTuple):
    """Input of a branch, as unscaled latents.

    Attributes:
        coarse: latents of the coarse grid, of any size, [b, T, V, c, height, width].
        video: latents of the input video, [b, T, c, h, w].
    """

    coarse: Tensor
    video: Tensor

    def frames(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Flatten the coarse grid and the video to batches, resized to the size of the video.

        Returns:
            The coarse grid, [N, c, h, w], and the video, [b·T, c, h, w].
        """
        video = self.video.flatten(0, 1).to(dtype, memory_format=torch.channels_last)
        coarse = self.coarse.flatten(0, 2).to(dtype, memory_format=torch.channels_last)
        if coarse.shape[-2:] != video.shape[-2:]:
            coarse = interpolate(coarse, video.shape[-2:], mode="bilinear", align_corners=False)
        return coarse, video


@dataclass(frozen=True)
class StructureBranchSettings:
    """Arguments of `build_branch` apart from the configuration of the UNet.

    Attributes:
        name: key of `BRANCHES`.
        roles: roles of its MAP modules, a key of `appearance_propagation.ROLES`.
    """

    name: str
    roles: str


class StructureBranch(nn.Module, ABC):
    """Interface of all branches.

    Attributes:
        name: key in `BRANCHES`.
        config: sizes of the UNet whose features the branch adds to.
        roles: roles of its MAP modules, a key of `appearance_propagation.ROLES`.
    """

    name: str

    def __init__(self, config: SV4DConfig, roles: str):
        super().__init__()
        self.config = config
        self.roles = roles

    @property
    def settings(self) -> StructureBranchSettings:
        """Arguments of `build_branch` apart from the configuration of the UNet."""
        return StructureBranchSettings(self.name, self.roles)

    @abstractmethod
    def forward(self, structure: Structure) -> FeatureResiduals:
        """Compute the residuals, which serve all steps and both halves of guidance.

        Args:
            structure: coarse grid and video; h and w divisible by `config.downsampling`.
        """

    def init_from_unet(self, unet: SV4DUNet) -> None:
        """Copy weights from the base network; only some branches do."""

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the parameters and the features."""
        return next(self.parameters()).dtype


class VideoPyramid(nn.Module):
    """Features F_ref of the input video at the size and width of each level."""

    def __init__(self, config: SV4DConfig):
        super().__init__()
        widths = level_widths(config)
        self.first = nn.Conv2d(config.out_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Conv2d(finer, coarser, 3, stride=2, padding=1))
            for finer, coarser in pairwise(widths)
        )

    def forward(self, video: Tensor) -> list[Tensor]:
        """Map [b·T, c, h, w] to [b·T, C_l, h/2ˡ, w/2ˡ] for each level l."""
        levels = [self.first(video)]
        for down in self.down:
            levels.append(down(levels[-1]))
        return levels


class ConvolutionBlock(nn.Module):
    """Residual block on each frame: twice norm, SiLU, convolution."""

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
        """Map [N, channels_in, h, w] to [N, channels, h, w]."""
        return self.skip(x) + self.layers(x)


class ZeroConvHead(nn.Module):
    """Output layers of a branch at one feature point: MAP and a zero convolution."""

    def __init__(self, point: FeaturePoint, config: SV4DConfig, roles: str):
        super().__init__()
        reference = level_widths(config)[point.level]
        self.propagate = ROLES[roles](point.channels, reference, config.num_head_channels)
        self.out = zero_convolution(point.channels)


class BranchLevel(ZeroConvHead):
    """Layers of a pyramid branch for one feature point: resizing, convolution block, output."""

    def __init__(
        self,
        resize: nn.Module,
        channels_in: int,
        point: FeaturePoint,
        config: SV4DConfig,
        roles: str,
    ):
        super().__init__(point, config, roles)
        self.resize = resize
        self.block = ConvolutionBlock(channels_in, point.channels)


class PyramidBranch(StructureBranch):
    """A branch of convolution blocks and MAP, from the finest level down.

        coarse ─▶ conv ─▶ ( ↓ ) block ─▶ MAP ─▶ … ─▶ ( ↑ ⊕ own feature ) block ─▶ MAP ─▶ …
                                          └─▶ zero convolution ─▶ the UNet's feature

    It takes neither the noisy latents nor the noise level, so that it runs once per window.
    """

    def __init__(self, config: SV4DConfig, roles: str, down: list[FeaturePoint]):
        super().__init__(config, roles)
        self.down = down
        self.first = nn.Conv2d(config.out_channels, config.model_channels, 3, padding=1)
        self.pyramid = VideoPyramid(config)
        self.stages = nn.ModuleDict()
        channels, level = config.model_channels, 0
        for point in down:
            resize = Downsample(channels) if point.level > level else nn.Identity()
            self.stages[point.name] = BranchLevel(resize, channels, point, config, roles)
            channels, level = point.channels, point.level

    def forward(self, structure: Structure) -> FeatureResiduals:
        """See `StructureBranch`."""
        coarse, video = structure.frames(self.dtype)
        residuals = self._residuals(self.first(coarse), self.pyramid(video))
        return lambda x, conditions: residuals

    def _residuals(self, h: Tensor, video: list[Tensor]) -> Mapping[str, Tensor]:
        """Compute residuals by point, from features [N, C, h, w] and the video's levels."""
        return self._encode(h, video)[0]

    def _encode(
        self, h: Tensor, video: list[Tensor]
    ) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
        """Compute residuals by point, and the branch's own last feature of each level."""
        residuals, features = {}, {}
        for point in self.down:
            branch_level = self._level(point)
            h = branch_level.block(branch_level.resize(h))
            h = branch_level.propagate(h, video[point.level])
            residuals[point.name] = branch_level.out(h)
            features[point.level] = h
        return residuals, features

    def _level(self, point: FeaturePoint) -> BranchLevel:
        return cast(BranchLevel, self.stages[point.name])


class LayerwiseBranch(PyramidBranch):
    """The paper's branch: a residual for every encoder feature and every upsampled decoder feature.

    Like the UNet, its decoder has skip connections from its own encoder; from the deepest level
    alone it could not restore a fine layout.

    Source: 4DVD, §3.4, Fig. 8a.
    """

    name = "layerwise"

    def __init__(self, config: SV4DConfig, roles: str):
        super().__init__(config, roles, input_points(config))
        self.up = upsampled_points(config)
        skip_channels = {point.level: point.channels for point in self.down}
        channels = self.down[-1].channels
        for point in self.up:
            channels_in = channels + skip_channels[point.level]
            self.stages[point.name] = BranchLevel(
                Upsample(channels), channels_in, point, config, roles
            )
            channels = point.channels

    def _residuals(self, h: Tensor, video: list[Tensor]) -> Mapping[str, Tensor]:
        residuals, features = self._encode(h, video)
        h = features[self.down[-1].level]
        for point in self.up:
            branch_level = self._level(point)
            h = torch.cat([branch_level.resize(h), features[point.level]], dim=1)
            h = branch_level.propagate(branch_level.block(h), video[point.level])
            residuals[point.name] = branch_level.out(h)
        return residuals


class T2IAdapterBranch(PyramidBranch):
    """Ablation: a T2I-Adapter, with one residual for the last encoder feature of each level.

    Source: Mou et al. 2023, "T2I-Adapter", §3.2; 4DVD, Fig. 8b.
    """

    name = "t2i_adapter"

    def __init__(self, config: SV4DConfig, roles: str):
        last_of_level = {point.level: point for point in input_points(config)}
        super().__init__(config, roles, list(last_of_level.values()))


class ControlNetBranch(StructureBranch):
    """Ablation: a ControlNet, a trainable copy of the UNet's encoder.

        coarse ─▶ conv ─▶ SiLU ─▶ zero convolution
                                      │
        noisy latents ─▶ first conv ─▶+─▶ input blocks ─▶ middle block      (the copy)
                                             └─▶ MAP ─▶ zero convolution ─▶ skips of the UNet

    The copy takes the noisy latents, so it runs in every step, with the UNet's own embedding of the
    noise level. `init_from_unet` copies the weights.

    Source: Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models", §3;
    4DVD, Fig. 8c.
    """

    name = "controlnet"

    def __init__(self, config: SV4DConfig, roles: str):
        super().__init__(config, roles)
        unet, first = SV4DUNet(config), config.model_channels
        self.input_blocks, self.middle_block = unet.input_blocks, unet.middle_block
        self.hint = nn.Sequential(
            nn.Conv2d(config.out_channels, first, 3, padding=1), nn.SiLU(), zero_convolution(first)
        )
        self.pyramid = VideoPyramid(config)
        self.skips, self.middle = skip_points(config), middle_point(config)
        self.outlets = nn.ModuleDict(
            {point.name: ZeroConvHead(point, config, roles) for point in (*self.skips, self.middle)}
        )

    def init_from_unet(self, unet: SV4DUNet) -> None:
        """Copy the weights of the base's encoder and middle block."""
        self.input_blocks.load_state_dict(unet.input_blocks.state_dict())
        self.middle_block.load_state_dict(unet.middle_block.state_dict())

    def forward(self, structure: Structure) -> FeatureResiduals:
        """See `StructureBranch`."""
        coarse, video = structure.frames(self.dtype)
        return partial(self._residuals, self.hint(coarse), self.pyramid(video))

    def _residuals(
        self, hint: Tensor, video: list[Tensor], x: Tensor, conditions: SV4DConditions
    ) -> Mapping[str, Tensor]:
        """Run the copy on the UNet's input x, [r·N, in_channels, h, w], r = 2 with guidance."""
        repeats = len(x) // len(hint)
        video = [level.repeat(repeats, 1, 1, 1) for level in video]
        conditions = SV4DConditions(*(each.to(self.dtype) for each in conditions))
        h, residuals = x.to(self.dtype), {}
        for index, (block, point) in enumerate(zip(self.input_blocks, self.skips, strict=True)):
            h = run_block(block, h, conditions)
            if index == 0:
                h = add_residual(h, hint)
            residuals[point.name] = self._head(point, h, video)
        h = run_block(self.middle_block, h, conditions)
        residuals[self.middle.name] = self._head(self.middle, h, video)
        return residuals

    def _head(self, point: FeaturePoint, h: Tensor, video: list[Tensor]) -> Tensor:
        head = cast(ZeroConvHead, self.outlets[point.name])
        return head.out(head.propagate(h, video[point.level]))


BRANCHES: dict[str, type[StructureBranch]] = {
    branch.name: branch for branch in (LayerwiseBranch, ControlNetBranch, T2IAdapterBranch)
}


def build_branch(name: str, config: SV4DConfig, roles: str = "reference_query") -> StructureBranch:
    """Build an untrained branch, which adds nothing yet.

    Args:
        name: "layerwise" (the paper's), "controlnet" or "t2i_adapter".
        config: sizes of the UNet whose features the branch adds to.
        roles: roles of MAP, "reference_query" (the paper's) or "feature_query".

    Raises:
        InputError: `name` or `roles` is unknown.
    """
    if name not in BRANCHES:
        raise InputError(
            f"unknown structure branch {name!r}; expected one of {', '.join(BRANCHES)}"
        )
    if roles not in ROLES:
        raise InputError(f"unknown MAP roles {roles!r}; expected one of {', '.join(ROLES)}")
    return BRANCHES[name](config, roles)


def zero_convolution(channels: int) -> nn.Conv2d:
    """Build a 1×1 convolution with weights and bias of zero."""
    convolution = nn.Conv2d(channels, channels, 1)
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def level_widths(config: SV4DConfig) -> list[int]:
    """Return the number of channels of each level of the UNet."""
    return [multiple * config.model_channels for multiple in config.channel_mult]
