"""The image autoencoder that `fourdvd train vae` makes, on disk and as the pipeline asks for it.

    image [N, 3, S, S] in [−1, 1] ──encoder──▶ latent [N, c, s, s], not scaled
                                   × scale = what the diffusion sees
    image ◀──decoder── scaled latent

A safetensors file, whose metadata says what it is:

    format   "fourdvd-vae"
    version  "1"
    config   JSON: the sizes, from which the network is built
    scale    gives the latents a mean square of 1

What it does not know: how it was trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from generation.models.patch_autoencoder import (
    PatchAutoencoder,
    PatchAutoencoderConfig,
    PatchDecoder,
)
from generation.weights.store import load_module
from recon.errors import FourdvdError, WeightsError
from recon.resume import save_tensors

FORMAT, VERSION = "fourdvd-vae", "1"


class TrainedAutoencoder(NamedTuple):
    """What a file holds.

    Attributes:
        network: float32, in evaluation and without gradients.
        scale: gives its latents a mean square of 1.
    """

    network: PatchAutoencoder
    scale: float


class ScaledDecoder(nn.Module):
    """The decoder, of latents as the diffusion sees them."""

    def __init__(self, decoder: PatchDecoder, scale: float):
        super().__init__()
        self.decoder, self.scale = decoder, scale

    def forward(self, latents: Tensor) -> Tensor:
        """[N, c, s, s] to [N, 3, S, S]."""
        return self.decoder(latents / self.scale)


def save_autoencoder(
    path: Path, config: PatchAutoencoderConfig, scale: float, tensors: Mapping[str, Tensor]
) -> None:
    """Writes an autoencoder.

    Args:
        path: of the file.
        config: sizes of the network.
        scale: gives its latents a mean square of 1.
        tensors: its state.
    """
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "config": json.dumps(asdict(config)),
        "scale": repr(scale),
    }
    save_tensors(path, tensors, metadata)


def load_autoencoder(path: Path) -> TrainedAutoencoder:
    """The autoencoder that a training has written.

    Raises:
        WeightsError: the file is missing, damaged or none of ours.
    """
    config, scale = _read_notes(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        with torch.device("meta"):
            network = PatchAutoencoder(config)
        return TrainedAutoencoder(load_module(network, tensors), scale)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: not an autoencoder that can be read ({error})") from error
    except FourdvdError as error:
        raise WeightsError(f"{path}: {error}") from error


def read_autoencoder_config(path: Path) -> PatchAutoencoderConfig:
    """The sizes of a file's network; no tensor is read.

    Raises:
        WeightsError: as `load_autoencoder`.
    """
    return _read_notes(path)[0]


def _read_notes(path: Path) -> tuple[PatchAutoencoderConfig, float]:
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
        if (notes.get("format"), notes.get("version")) != (FORMAT, VERSION):
            raise WeightsError(
                f"expected {FORMAT} of version {VERSION}; `fourdvd train vae` makes it"
            )
        scale = float(notes["scale"])
        if not 0 < scale < math.inf:
            raise WeightsError(f"expected a scale above 0, found {scale}")
        return PatchAutoencoderConfig(**json.loads(notes["config"])), scale
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not an autoencoder that can be read ({error})") from error
    except FourdvdError as error:
        raise WeightsError(f"{path}: {error}") from error
