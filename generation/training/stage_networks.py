"""The networks of one diffusion stage in one module: what is trained, and what is frozen beside it.

What it does not know: what they are trained for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from generation.models.image_encoders import CLIPImageEncoder, ConvImageEncoder
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DUNet
from generation.models.transformer import TransformerBlock
from generation.training.latents import LatentSpace
from generation.training.processes import whole
from generation.training.results import TOWER_NAME, UNET_NAME, trained_file
from generation.weights.files import describe, save_weights


class StageNetworks(nn.Module):
    """UNet, image tower and autoencoder.

    Attributes:
        unet: SV3D's or SV4D's.
        tower: makes the tokens that the UNet reads.
        space: the latents in which it works.
    """

    def __init__(
        self,
        unet: SV3DUNet | SV4DUNet,
        tower: ConvImageEncoder | CLIPImageEncoder,
        space: LatentSpace,
    ):
        super().__init__()
        self.unet, self.tower, self.space = unet, tower, space


class Base(NamedTuple):
    """SV4D with its image tower, published or from `fourdvd train base`.

    Attributes:
        unet: SV4D's network.
        tower: of its tokens.
        sha256: of the UNet's file.
    """

    unet: SV4DUNet
    tower: ConvImageEncoder | CLIPImageEncoder
    sha256: str


class Whole(NamedTuple):
    """What a training of a whole network has left.

    Attributes:
        unet: the UNet.
        tower: of its tokens.
        sha256: of the UNet's file.
    """

    unet: SV3DUNet | SV4DUNet
    tower: ConvImageEncoder
    sha256: str


def open_whole(folder: Path, stage: str, kind: str, space: LatentSpace) -> Whole:
    """The networks of a finished training, frozen.

    Args:
        folder: of the training, or an assembled one.
        stage: that made them.
        kind: of the UNet, a key of `generation.weights.files.KINDS`.
        space: the latents in which they must work.

    Raises:
        WeightsError: they are missing, damaged or for another autoencoder.
    """
    unet = describe(trained_file(folder, UNET_NAME, stage), kind)
    image_encoder = describe(trained_file(folder, TOWER_NAME, stage), "image-encoder")
    for file in (unet, image_encoder):
        file.check_requires(vae=space.sha256)
    return Whole(unet.build(), image_encoder.build(), unet.sha256)


def open_base(folder: Path, space: LatentSpace) -> Base:
    """Those of a finished training of the base; see `open_whole`."""
    return Base(*open_whole(folder, "base", "sv4d", space))  # type: ignore[arg-type]


def train_whole(networks: StageNetworks) -> None:
    """Has UNet and tower trained, except for what has no effect."""
    networks.unet.requires_grad_(True)
    networks.tower.requires_grad_(True)
    freeze_without_effect(networks.unet)


def freeze_without_effect(module: nn.Module) -> None:
    """Freezes what a cross-attention to one token never uses, and so never gets a gradient."""
    for block in module.modules():
        if isinstance(block, TransformerBlock):
            for layer in (block.norm2, block.attn2.to_q, block.attn2.to_k):
                layer.requires_grad_(False)


def save_whole(
    folder: Path, networks: StageNetworks, weights: Mapping[str, Tensor], dtype: torch.dtype
) -> None:
    """Writes UNet and tower.

    Args:
        folder: an empty one.
        networks: for the tensors that are not trained.
        weights: the trained ones by their names in the networks.
        dtype: of the tensors in the files.
    """
    for part, name in (("unet", UNET_NAME), ("tower", TOWER_NAME)):
        network = networks.get_submodule(part)
        tensors = {
            key: weights.get(f"{part}.{key}", tensor)
            for key, tensor in network.state_dict().items()
        }
        complete = {key: whole(tensor) for key, tensor in tensors.items()}
        requires = {"vae": networks.space.sha256}
        save_weights(folder / name, network.config, complete, requires, dtype=dtype)
