"""The latents in which the cascade is trained: a frozen autoencoder, such as our `train vae` makes.

    images [−1, 1] ──latents──▶ the mode of the posterior        what the networks are told
                                 × scale                          what they make
    images [−1, 1] ◀──images── scaled latents

Letters: c channels of a latent, S pixels and s latent pixels on a side. What it does not know: how
the autoencoder was trained.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from generation.models.patch_autoencoder import PatchAutoencoder, ScaledDecoder
from generation.models.vae import LATENT_SIDE
from generation.training.autoencoder import NAME
from generation.training.results import trained_file
from generation.weights.catalogue import VAE_FILE
from generation.weights.files import describe

IMAGES_AT_ONCE = 32  # on a CPU; elsewhere as many as have so many pixels
PIXELS_AT_ONCE = 32 * 576**2


class LatentSpace(nn.Module):
    """Images to latents and back, without gradients.

    Attributes:
        scale: gives latents a mean square of 1.
        channels: c.
        sha256: of the autoencoder's file.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, scale: float, channels: int, sha256: str
    ):
        """Of two halves that are frozen from now on.

        Args:
            encoder: images [N, 3, S, S] to latents that are not scaled.
            decoder: scaled latents to images.
            scale: see above, as the two others.
            channels: see above.
            sha256: see above.
        """
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.decoder = decoder.requires_grad_(False)
        self.scale, self.channels, self.sha256 = scale, channels, sha256

    @torch.no_grad()
    def latents(self, images: Tensor) -> Tensor:
        """Not scaled: [..., 3, S, S] to float32 [..., c, s, s]."""
        pieces = images.flatten(0, -4).split(_at_once(images))
        found = torch.cat([self.encoder(piece).float() for piece in pieces])
        return found.unflatten(0, images.shape[:-3])

    @torch.no_grad()
    def images(self, latents: Tensor) -> Tensor:
        """In [−1, 1] of scaled latents: [N, c, s, s] to float32 [N, 3, S, S]."""
        pieces = latents.split(_at_once(latents, LATENT_SIDE))
        return torch.cat([self.decoder(piece).float() for piece in pieces]).clamp(-1, 1)


def open_latent_space(folder: Path) -> LatentSpace:
    """The autoencoder of a finished training.

    Args:
        folder: of `fourdvd train vae`, or an assembled one.

    Raises:
        WeightsError: the autoencoder is missing, damaged or none of ours.
    """
    file = describe(trained_file(folder, VAE_FILE, NAME), "vae")
    vae: PatchAutoencoder = file.build()
    scale, channels = vae.config.latent_scale, vae.config.latent_channels
    return LatentSpace(vae.encoder, ScaledDecoder(vae), scale, channels, file.sha256)


def _at_once(images: Tensor, side: int = 1) -> int:
    """How many images [..., S, S] go through together; a pixel stands for side² of an image."""
    if images.device.type == "cpu":
        return IMAGES_AT_ONCE
    return max(1, PIXELS_AT_ONCE // (images.shape[-1] * side) ** 2)
