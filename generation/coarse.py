"""The cascade's coarse stage: where things are in which view and when, in a small grid.

SV4D's network with a LoRA, at 256 × 256 pixels; smaller images do not come through the autoencoder
as they are. The LoRA is merged into the weights, so that a step costs what SV4D's costs.

Source: 4DVD, §3.3.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from generation.checkpoint import COARSE_STATE
from generation.models.lora import merge_lora
from generation.models.sv4d import SV4DUNet
from generation.networks import Networks
from generation.stages import SEEDS, Stage, reduced
from generation.weights.files import load_lora


class CoarseStage(Stage):
    """See `Stage`."""

    name = "coarse"
    state = COARSE_STATE
    first_seed = SEEDS // 2

    def __init__(self, size: int, lora: Path, base_sha256: str):
        """Keeps what it needs.

        Args:
            size: pixels a side; images that are not larger stay as they are.
            lora: the file.
            base_sha256: of the published file that the networks are from.
        """
        self.size, self.lora, self.base_sha256 = size, lora, base_sha256

    def resized(self, images: Tensor) -> Tensor:
        """See `Stage`."""
        return reduced(images, self.size)

    def prepare(self, networks: Networks) -> None:
        """Puts the LoRA into the network's weights."""
        assert isinstance(networks.unet, SV4DUNet)
        load_lora(self.lora, networks.unet, self.base_sha256)
        merge_lora(networks.unet)
