"""What coarse and fine stage stand on: a base and the latents in which it works.

    folders of `fourdvd train vae` and `fourdvd train base`     our own networks
    the published file of SV4D, which has an autoencoder         the paper's

What it does not know: what is trained on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from generation.models.sv4d import SV4DUNet
from generation.models.vae import LATENT_CHANNELS, SCALE_FACTOR
from generation.training.latents import LatentSpace, open_latent_space
from generation.training.stage_networks import Base, open_base
from generation.weights.catalogue import published
from generation.weights.model_weights import open_published
from recon.errors import InputError

PUBLISHED = "sv4d"


class Foundation(NamedTuple):
    """Frozen networks.

    Attributes:
        base: SV4D and its image tower.
        space: the latents in which it works.
    """

    base: Base
    space: LatentSpace

    @property
    def origins(self) -> dict[str, str]:
        """Hashes of the files, for the identity of a training."""
        return {"vae_sha256": self.space.sha256, "base_sha256": self.base.sha256}


def open_foundation(base: Path, vae: Path | None) -> Foundation:
    """Reads what a stage stands on.

    Args:
        base: folder of a finished training of the base, or the published file of SV4D.
        vae: folder of a finished training of the autoencoder; of no use for a published file.

    Raises:
        WeightsError: autoencoder or base are missing, damaged or do not fit each other.
        InputError: the autoencoder of our own base is not named.
    """
    if Path(base).is_file():
        return _published(base)
    if vae is None:
        raise InputError("name the autoencoder of this base with --vae", base)
    space = open_latent_space(vae)
    return Foundation(open_base(base, space), space)


def _published(path: Path) -> Foundation:
    weights = open_published(path, published[PUBLISHED])
    networks = weights.load(torch.device("cpu"), torch.float32)
    assert isinstance(networks.unet, SV4DUNet)
    sha256 = weights.sha256
    space = LatentSpace(networks.encoder, networks.decoder, SCALE_FACTOR, LATENT_CHANNELS, sha256)
    return Foundation(Base(networks.unet, networks.image_encoder, sha256), space)
