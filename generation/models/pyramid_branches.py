"""Branches of convolution blocks and MAP: the paper's, and a T2I-Adapter.

    coarse ─▶ conv ─▶ ( ↓ ) block ─▶ MAP ─▶ … ─▶ ( ↑ ⊕ own feature ) block ─▶ MAP ─▶ …
                                      └─▶ 1×1, zero at first ─▶ the UNet's feature

They never see the noisy latents or the noise level, so that one run of the branch serves all steps
of a sampling and both halves of the guidance.

Letters: as in `structure_condition`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from generation.models.injection import (
    Inject,
    Place,
    input_places,
    last_of_levels,
    upsampled_places,
)
from generation.models.structure_condition import (
    ConvolutionBlock,
    Outlet,
    Structure,
    StructureBranch,
    VideoPyramid,
)
from generation.models.sv4d import SV4DConfig
from generation.models.unet import Downsample, Upsample


class Stage(Outlet):
    """What a branch computes for one place: a change of size, a convolution block, MAP."""

    def __init__(
        self, resize: nn.Module, channels_in: int, place: Place, config: SV4DConfig, roles: str
    ):
        super().__init__(place, config, roles)
        self.resize = resize
        self.block = ConvolutionBlock(channels_in, place.channels)


class PyramidBranch(StructureBranch):
    """The way down: one stage for each place, finest level first."""

    def __init__(self, config: SV4DConfig, roles: str, down: list[Place]):
        super().__init__(config, roles)
        self.down = down
        self.first = nn.Conv2d(config.out_channels, config.model_channels, 3, padding=1)
        self.pyramid = VideoPyramid(config)
        self.stages = nn.ModuleDict()
        channels, level = config.model_channels, 0
        for place in down:
            resize = Downsample(channels) if place.level > level else nn.Identity()
            self.stages[place.name] = Stage(resize, channels, place, config, roles)
            channels, level = place.channels, place.level

    def forward(self, structure: Structure) -> Inject:
        """See `StructureBranch`."""
        coarse, video = structure.frames(self.dtype)
        added = self._added(self.first(coarse), self.pyramid(video))
        return lambda x, conditions: added

    def _added(self, h: Tensor, video: list[Tensor]) -> Mapping[str, Tensor]:
        """What is added at each place, of [N, C, h, w] and the levels of the video."""
        return self._way_down(h, video)[0]

    def _way_down(
        self, h: Tensor, video: list[Tensor]
    ) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
        """What is added at each place, and the branch's own last feature of each level."""
        added, features = {}, {}
        for place in self.down:
            stage = self._stage(place)
            h = stage.propagate(stage.block(stage.resize(h)), video[place.level])
            added[place.name] = stage.out(h)
            features[place.level] = h
        return added, features

    def _stage(self, place: Place) -> Stage:
        return cast(Stage, self.stages[place.name])


class T2IAdapterBranch(PyramidBranch):
    """The ablation's first branch: one feature for the end of each level of the way down.

    Source: Mou et al. 2023, "T2I-Adapter", §3.2; 4DVD, Fig. 8b.
    """

    name = "t2i_adapter"

    def __init__(self, config: SV4DConfig, roles: str):
        super().__init__(config, roles, last_of_levels(input_places(config)))


class LayerwiseBranch(PyramidBranch):
    """The paper's: at every skip on the way down, and wherever the way up enters a level.

    On the way up it takes up its own feature of the level again, as the UNet takes up its skips;
    from the deepest level alone the layout could not be drawn finely.

    Source: 4DVD, §3.4, Fig. 8a.
    """

    name = "layerwise"

    def __init__(self, config: SV4DConfig, roles: str):
        super().__init__(config, roles, input_places(config))
        self.up = upsampled_places(config)
        own = {place.level: place.channels for place in self.down}
        channels = self.down[-1].channels
        for place in self.up:
            taken_up = channels + own[place.level]
            self.stages[place.name] = Stage(Upsample(channels), taken_up, place, config, roles)
            channels = place.channels

    def _added(self, h: Tensor, video: list[Tensor]) -> Mapping[str, Tensor]:
        added, features = self._way_down(h, video)
        h = features[self.down[-1].level]
        for place in self.up:
            stage = self._stage(place)
            h = stage.block(torch.cat([stage.resize(h), features[place.level]], dim=1))
            h = stage.propagate(h, video[place.level])
            added[place.name] = stage.out(h)
        return added
