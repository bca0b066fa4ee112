"""A ControlNet: a trainable copy of the UNet's way down, whose features go into the way up.

    coarse ─▶ conv ─▶ SiLU ─▶ 1×1, zero at first
                                  │
    noisy latents ─▶ first conv ─▶+─▶ input blocks ─▶ middle block      (the copy)
                                         └─▶ MAP ─▶ 1×1, zero at first ─▶ skips of the UNet

The copy sees the noisy latents, so it runs in every step. It is told the embedding of the noise
level that the UNet has made.

Letters: as in `structure_condition`; b′ batch items of a call, such as two halves of guidance.

Source: Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models", §3;
4DVD, Fig. 8c.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

from torch import Tensor, nn

from generation.models.injection import Inject, Place, add, middle_place, skip_places
from generation.models.structure_condition import (
    Outlet,
    Structure,
    StructureBranch,
    VideoPyramid,
    zero_convolution,
)
from generation.models.sv4d import SV4DConditions, SV4DConfig, SV4DUNet
from generation.models.unet import run_block


class ControlNetBranch(StructureBranch):
    """The ablation's second branch; `start_from` makes the copy one."""

    name = "controlnet"

    def __init__(self, config: SV4DConfig, roles: str):
        super().__init__(config, roles)
        unet, first = SV4DUNet(config), config.model_channels
        self.input_blocks, self.middle_block = unet.input_blocks, unet.middle_block
        self.hint = nn.Sequential(
            nn.Conv2d(config.out_channels, first, 3, padding=1), nn.SiLU(), zero_convolution(first)
        )
        self.pyramid = VideoPyramid(config)
        self.skips, self.middle = skip_places(config), middle_place(config)
        self.outlets = nn.ModuleDict(
            {place.name: Outlet(place, config, roles) for place in (*self.skips, self.middle)}
        )

    def start_from(self, unet: SV4DUNet) -> None:
        """Copies the weights of the base's way down and of its middle."""
        self.input_blocks.load_state_dict(unet.input_blocks.state_dict())
        self.middle_block.load_state_dict(unet.middle_block.state_dict())

    def forward(self, structure: Structure) -> Inject:
        """See `StructureBranch`."""
        coarse, video = structure.frames(self.dtype)
        return partial(self._added, self.hint(coarse), self.pyramid(video))

    def _added(
        self, hint: Tensor, video: list[Tensor], x: Tensor, conditions: SV4DConditions
    ) -> Mapping[str, Tensor]:
        """What the copy makes of the UNet's input x, [b′·T·V, in_channels, h, w]."""
        repeats = len(x) // len(hint)
        video = [level.repeat(repeats, 1, 1, 1) for level in video]
        conditions = SV4DConditions(*(each.to(self.dtype) for each in conditions))
        h, added = x.to(self.dtype), {}
        for index, (block, place) in enumerate(zip(self.input_blocks, self.skips, strict=True)):
            h = run_block(block, h, conditions)
            if index == 0:
                h = add(h, hint)
            added[place.name] = self._outlet(place, h, video)
        h = run_block(self.middle_block, h, conditions)
        added[self.middle.name] = self._outlet(self.middle, h, video)
        return added

    def _outlet(self, place: Place, h: Tensor, video: list[Tensor]) -> Tensor:
        outlet = cast(Outlet, self.outlets[place.name])
        return outlet.out(outlet.propagate(h, video[place.level]))
