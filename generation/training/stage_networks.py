"""The networks of a diffusion stage: UNet, image encoder and autoencoder, trained or frozen.

    images [−1, 1] ──encode──▶ unscaled latents        conditioning of the networks
                                 × scale               latents to denoise
    images [−1, 1] ◀──decode── scaled latents

The coarse and the fine stage train a LoRA and a branch for a frozen base, which is either the
network of `fourdvd train base` or the published SV4D.

Letters: c channels of a latent, S pixels and s latent pixels on a side.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from generation.models.image_encoders import ImageEncoder
from generation.models.patch_autoencoder import PatchAutoencoder, ScaledDecoder
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DUNet
from generation.models.transformer import TransformerBlock
from generation.models.vae import LATENT_CHANNELS, LATENT_SIDE, SCALE_FACTOR
from generation.training.processes import gather
from generation.training.results import IMAGE_ENCODER_NAME, UNET_NAME, trained_file
from generation.weights.catalogue import VAE_FILE, published
from generation.weights.files import describe, save_weights
from generation.weights.model_weights import open_published
from recon.errors import InputError

PUBLISHED_BASE = "sv4d"
IMAGES_AT_ONCE = 32  # per call of the autoencoder on a CPU
PIXELS_AT_ONCE = 32 * 576**2  # per call of the autoencoder on an accelerator


class LatentSpace(nn.Module):
    """A frozen autoencoder.

    Attributes:
        scale: factor that gives latents a mean square of 1.
        channels: number of channels c of a latent.
        sha256: sha256 of the autoencoder's file.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, scale: float, channels: int, sha256: str
    ):
        """Freeze encoder and decoder.

        Args:
            encoder: network from images [N, 3, S, S] to unscaled latents.
            decoder: network from scaled latents to images.
            scale: see the class.
            channels: see the class.
            sha256: see the class.
        """
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.decoder = decoder.requires_grad_(False)
        self.scale, self.channels, self.sha256 = scale, channels, sha256

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Map images [..., 3, S, S] to unscaled latents, float32, [..., c, s, s]."""
        pieces = images.flatten(0, -4).split(_chunk(images))
        latents = torch.cat([self.encoder(piece).float() for piece in pieces])
        return latents.unflatten(0, images.shape[:-3])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Map scaled latents [N, c, s, s] to images in [−1, 1], float32, [N, 3, S, S]."""
        pieces = latents.split(_chunk(latents, LATENT_SIDE))
        return torch.cat([self.decoder(piece).float() for piece in pieces]).clamp(-1, 1)


def open_latent_space(folder: Path) -> LatentSpace:
    """Load the autoencoder of a finished training.

    Args:
        folder: output folder of `fourdvd train vae` or `fourdvd train assemble`.

    Raises:
        WeightsError: the autoencoder is missing, damaged or not of this format.
    """
    file = describe(trained_file(folder, VAE_FILE, "vae"), "vae")
    vae: PatchAutoencoder = file.build()
    scale, channels = vae.config.latent_scale, vae.config.latent_channels
    return LatentSpace(vae.encoder, ScaledDecoder(vae), scale, channels, file.sha256)


def _chunk(images: Tensor, side: int = 1) -> int:
    """Return the number of images [..., S, S] per call; a pixel stands for side² image pixels."""
    if images.device.type == "cpu":
        return IMAGES_AT_ONCE
    return max(1, PIXELS_AT_ONCE // (images.shape[-1] * side) ** 2)


class StageNetworks(nn.Module):
    """UNet, image encoder and autoencoder in one module.

    Attributes:
        unet: SV3D's or SV4D's UNet.
        image_encoder: image encoder, whose tokens condition the UNet.
        space: latent space of the UNet.
    """

    def __init__(self, unet: SV3DUNet | SV4DUNet, image_encoder: ImageEncoder, space: LatentSpace):
        super().__init__()
        self.unet, self.image_encoder, self.space = unet, image_encoder, space


class TrainedUNet(NamedTuple):
    """A UNet with the image encoder it was trained with.

    Attributes:
        unet: SV3D's or SV4D's UNet.
        image_encoder: image encoder, whose tokens condition the UNet.
        sha256: sha256 of the UNet's file.
    """

    unet: SV3DUNet | SV4DUNet
    image_encoder: ImageEncoder
    sha256: str


class FrozenBase(NamedTuple):
    """The frozen base of the coarse and the fine stage.

    Attributes:
        unet: SV4D's UNet.
        image_encoder: image encoder, whose tokens condition the UNet.
        sha256: sha256 of the UNet's file.
        space: latent space of the UNet.
    """

    unet: SV4DUNet
    image_encoder: ImageEncoder
    sha256: str
    space: LatentSpace

    @property
    def origins(self) -> dict[str, str]:
        """Hashes of the files, for the identity of a training."""
        return {"vae_sha256": self.space.sha256, "base_sha256": self.sha256}


def open_trained_unet(folder: Path, stage: str, kind: str, space: LatentSpace) -> TrainedUNet:
    """Load the networks of a finished training, frozen.

    Args:
        folder: output folder of the training, or of `fourdvd train assemble`.
        stage: the stage that trained them.
        kind: kind of the UNet, "sv3d" or "sv4d".
        space: latent space that the networks must have been trained in.

    Raises:
        WeightsError: a file is missing or damaged, or was trained with another autoencoder.
    """
    unet = describe(trained_file(folder, UNET_NAME, stage), kind)
    encoder = describe(trained_file(folder, IMAGE_ENCODER_NAME, stage), "image-encoder")
    for file in (unet, encoder):
        file.check_requires(vae=space.sha256)
    return TrainedUNet(unet.build(), encoder.build(), unet.sha256)


def open_base(base: Path, vae: Path | None) -> FrozenBase:
    """Load the base of the coarse and the fine stage.

    Args:
        base: folder of a finished training of the base, or the published file of SV4D.
        vae: folder of the base's autoencoder; None for the published file.

    Raises:
        WeightsError: autoencoder or base is missing or damaged, or they do not match.
        InputError: `vae` is None although `base` is a folder.
    """
    if Path(base).is_file():
        return _open_published(base)
    if vae is None:
        raise InputError(
            "expected the autoencoder of a base that `fourdvd train` made; pass --vae", base
        )
    space = open_latent_space(vae)
    trained = open_trained_unet(base, "base", "sv4d", space)
    return FrozenBase(cast(SV4DUNet, trained.unet), trained.image_encoder, trained.sha256, space)


def _open_published(path: Path) -> FrozenBase:
    weights = open_published(path, published[PUBLISHED_BASE])
    networks = weights.load(torch.device("cpu"), torch.float32)
    assert isinstance(networks.unet, SV4DUNet)
    sha256 = weights.sha256
    space = LatentSpace(networks.encoder, networks.decoder, SCALE_FACTOR, LATENT_CHANNELS, sha256)
    return FrozenBase(networks.unet, networks.image_encoder, sha256, space)


def freeze_without_effect(module: nn.Module) -> None:
    """Freeze the parameters that a cross-attention to a single token never uses.

    They never get a gradient, and distributed training does not allow such parameters.
    """
    for block in module.modules():
        if isinstance(block, TransformerBlock):
            for layer in (block.norm2, block.attn2.to_q, block.attn2.to_k):
                layer.requires_grad_(False)


def save_unet(
    folder: Path, networks: StageNetworks, weights: Mapping[str, Tensor], dtype: torch.dtype
) -> None:
    """Write UNet and image encoder.

    Args:
        folder: an empty folder.
        networks: the networks, whose other tensors are not trained.
        weights: the trained parameters by their names in `networks`.
        dtype: floating-point type in the files.
    """
    requires = {"vae": networks.space.sha256}
    for part, name in (("unet", UNET_NAME), ("image_encoder", IMAGE_ENCODER_NAME)):
        network = networks.get_submodule(part)
        tensors = {
            key: gather(weights.get(f"{part}.{key}", tensor))
            for key, tensor in network.state_dict().items()
        }
        save_weights(folder / name, network.config, tensors, requires, dtype=dtype)
