"""The cascade's fine stage: SV4D as it is, told the coarse grid by a structure branch.

    coarse views ─▶ latents ─▶ branch ─┐ added to the network's features, in every step
    input video ──▶ latents ───────────┴▶ passes of SV4D at full size

Letters: n frames of the clip, T times and V views of a pass, h × w latent pixels.

Source: 4DVD, §3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from generation.models.structure_branch import Structure
from generation.models.sv4d import SV4DUNet
from generation.models.unet import FeatureResiduals
from generation.networks import Networks
from generation.stages import Stage
from generation.weights.files import load_branch


class FineStage(Stage):
    """See `Stage`."""

    name = "fine"
    grids_before = 1

    def __init__(self, coarse: Tensor, branch: Path, base_sha256: str):
        """Keeps what it needs.

        Args:
            coarse: views of the coarse stage in [−1, 1], those of the input first, [n, V, 3, H, W].
            branch: the file.
            base_sha256: of the published file that the networks are from.
        """
        self.coarse, self.file, self.base_sha256 = coarse, branch, base_sha256

    def prepare(self, networks: Networks) -> None:
        """Reads the branch, and makes latents of the coarse grid.

        The branch stays on the device whatever the memory, because one of its forms has a share in
        every step.
        """
        assert isinstance(networks.unet, SV4DUNet)
        unet = networks.unet
        self.branch = load_branch(
            self.file, unet.config, self.base_sha256, unet.dtype, networks.device
        )
        latents = networks.latents(self.coarse.flatten(0, 1))
        self.latents = latents.unflatten(0, self.coarse.shape[:2])

    @torch.inference_mode()
    def inject(
        self, networks: Networks, latents: Tensor, frames: Sequence[int]
    ) -> FeatureResiduals:
        """See `Stage`."""
        structure = Structure(self.latents[frames].unsqueeze(0), latents[frames].unsqueeze(0))
        return self.branch(Structure(*(part.to(networks.device) for part in structure)))
