"""The first stage: a small image autoencoder, in whose latents the others work.

    image over white [−1, 1] ─▶ encoder ─▶ mean, σ ─▶ mean + σ·noise ─▶ decoder ─▶ image
    loss = mean w |Δ| + edges · mean |∇(w Δ)| + kl · KL(N(mean, σ) ‖ N(0, 1))

The weight w is 1 where there is nothing and `object_weight` on the object, which is a small part of
most images: white alone is soon learnt, and colours are not.

Each grid of a batch gives images of every size, few of the large ones, so that all sizes have about
as many pixels. The network is that of `generation.models.patch_autoencoder`. Letters: B grids of a
batch, N images, S pixels on a side. What it does not know: cameras.

Source: loss without its adversarial part: Rombach et al., High-Resolution Image Synthesis with
Latent Diffusion Models, 2022, appendix G.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from generation.models.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig
from generation.models.vae import SCALE_FACTOR
from generation.training.dataset import Colours, TrainingSample, over_white
from generation.training.draws import Draws
from generation.training.stage import StageLoss
from generation.training.training_choice import Selection
from generation.weights.catalogue import VAE_FILE
from generation.weights.files import save_weights
from recon.errors import InputError
from recon.media import tile_images

NAME = "vae"
PICTURES_OF_A_SIZE = 8
LATENT_SIZE = 1 / SCALE_FACTOR  # root mean square, as that of the published autoencoder
MIXING_POWER = 0.25  # of the variances; 0 leaves all directions as they are, 1/2 makes them equal
SMALLEST_DIRECTION = 1e-4  # of the largest variance: what is less is nothing but noise


@dataclass(frozen=True)
class AutoencoderSettings:
    """The network, its images and its loss.

    Attributes:
        patch: see `PatchAutoencoderConfig`, as the next four.
        latent_channels: see there.
        width: see there.
        encoder_blocks: see there.
        decoder_blocks: see there.
        views: of each grid.
        frames: of each grid.
        max_stride: between two frames.
        sizes: of the images, as they are packed.
        varied: whether they are also shown mirrored and in other colours.
        object_weight: of the object's pixels, where the white ones around it have 1.
        edges: weight of the differences between neighbouring pixels.
        kl: weight of the KL divergence, a mean over the numbers of the latents.

    Raises:
        InputError: the numbers contradict each other.
    """

    patch: int = 8
    latent_channels: int = 16
    width: int = 160
    encoder_blocks: int = 2
    decoder_blocks: int = 4
    views: int = 2
    frames: int = 2
    max_stride: int = 8
    sizes: tuple[str, ...] = ("low", "high")
    varied: bool = False
    object_weight: float = 4.0
    edges: float = 0.5
    kl: float = 1e-4

    def __post_init__(self):
        self.network()
        if min(self.edges, self.kl) < 0 or self.object_weight <= 0:
            raise InputError("the weights of the loss must not be negative, that of objects not 0")

    def network(self) -> PatchAutoencoderConfig:
        """Sizes of the network."""
        return PatchAutoencoderConfig(
            self.patch, self.latent_channels, self.width, self.encoder_blocks, self.decoder_blocks
        )


class AutoencoderStage:
    """Trains the autoencoder; a `generation.training.stage.Stage`."""

    name = NAME

    def __init__(self, settings: AutoencoderSettings, seed: int = 0):
        """A new network, whose weights the seed decides."""
        self._settings = settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = PatchAutoencoder(settings.network())
        self.selection = Selection(
            settings.views,
            settings.frames,
            max_stride=settings.max_stride,
            random_reference=True,
            sizes=settings.sizes,
            varied=settings.varied,
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        """As JSON has them."""
        return asdict(self._settings)

    def loss(self, batch: TrainingSample, draws: Draws) -> StageLoss:
        """Of images of all sizes; see `Stage.loss`."""
        found = [self._loss_of(*each, draws) for each in _drawn_images(batch, draws)]
        parts = {name: torch.stack([each[name] for each in found]).mean() for name in found[0]}
        weights = {"difference": 1.0, "edges": self._settings.edges, "kl": self._settings.kl}
        loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        return StageLoss(loss, {name: part.detach() for name, part in parts.items()})

    @torch.no_grad()
    def score(self, samples: TrainingSample, draws: Draws) -> dict[str, float]:
        """PSNR in dB of the images of each size, their mean."""
        found = {}
        for size, target in samples.target.items():
            images = over_white(target.flatten(0, 2)).rgb
            error = ((self._reconstruct(images) - images) / 2).square().mean((1, 2, 3))
            found[f"psnr_{size}"] = float(-10 * error.clamp_min(1e-10).log10().mean())
        return found

    @torch.no_grad()
    def pictures(self, samples: TrainingSample, draws: Draws) -> np.ndarray:
        """For each size, a row of images above a row of what becomes of them."""
        rows = []
        for target in samples.target.values():
            images = over_white(target[:, 0, 0][:PICTURES_OF_A_SIZE]).rgb
            rows += [_row(images), _row(self._reconstruct(images))]
        return tile_images(rows, background=(0, 0, 0))

    @torch.no_grad()
    def save(
        self,
        folder: Path,
        weights: Mapping[str, Tensor],
        samples: TrainingSample,
        dtype: torch.dtype,
    ) -> None:
        """Writes the network with what makes its latents 0 for white and mixes them."""
        nothing = torch.ones_like(next(iter(samples.target.values()))[0, 0, :1, :3].float())
        latent = self.module.encoder(nothing)[0]
        white = latent[:, latent.shape[1] // 2, latent.shape[2] // 2, None, None]
        latents = [
            self.module.encoder(over_white(target.flatten(0, 2)).rgb) - white
            for target in samples.target.values()
        ]
        mix = mixing(torch.cat([each.movedim(1, -1).flatten(0, -2) for each in latents]))
        counted = {
            "encoder.white": white,
            "decoder.white": white,
            "encoder.mix": mix,
            "decoder.unmix": torch.linalg.inv(mix),
        }
        config = replace(self._settings.network(), latent_scale=1 / LATENT_SIZE)
        save_weights(folder / VAE_FILE, config, {**weights, **counted}, dtype=dtype)

    def _loss_of(self, images: Tensor, mask: Tensor, draws: Draws) -> dict[str, Tensor]:
        """The parts of the loss of [B, N, 3, S, S], with alpha [B, N, 1, S, S], each []."""
        found = self.module.encoder.posterior(images.flatten(0, 1))
        mean, log_variance = (each.float().unflatten(0, images.shape[:2]) for each in found)
        std = (0.5 * log_variance).exp()
        latents = mean + std * draws.normal(*mean.shape[1:])
        made = self._decode(latents.flatten(0, 1)).unflatten(0, images.shape[:2])
        difference = (made - images) * (1 + (self._settings.object_weight - 1) * mask)
        return {
            "difference": difference.abs().mean(),
            "edges": edge_size(difference),
            "kl": 0.5 * (mean.square() + std.square() - 1 - log_variance).mean(),
        }

    def _reconstruct(self, images: Tensor) -> Tensor:
        """Images as they come back from the mode of their latents, in [−1, 1]."""
        return self._decode(self.module.encoder(images)).clamp(-1, 1)

    def _decode(self, latents: Tensor) -> Tensor:
        return self.module.decoder(latents).float()


def edge_size(images: Tensor) -> Tensor:
    """Mean absolute differences of pixels one above and one beside the other, added: []."""
    return images.diff(dim=-1).abs().mean() + images.diff(dim=-2).abs().mean()


def images_of_size(count: int, side: int, smallest: int) -> int:
    """How many images have the pixels of `count` of the smallest size; at least one."""
    return max(1, count * smallest**2 // side**2)


def _drawn_images(batch: TrainingSample, draws: Draws) -> Sequence[Colours]:
    """For each size, as many images of each grid as fit: [B, N, ...]."""
    smallest = min(images.shape[-1] for images in batch.target.values())
    drawn = []
    for target in batch.target.values():
        images = target.flatten(1, 2)
        count = images_of_size(images.shape[1], images.shape[-1], smallest)
        chosen = draws.permutation(images.shape[1])[:, :count]
        grids = torch.arange(len(images), device=images.device)[:, None]
        drawn.append(over_white(images[grids, chosen]))
    return drawn


def _row(images: Tensor) -> list[np.ndarray]:
    """Convert images in [-1, 1], [N, 3, S, S], to N arrays, uint8, [S, S, 3]."""
    scaled = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return list(scaled.permute(0, 2, 3, 1).cpu().numpy())


def mixing(latents: Tensor) -> Tensor:
    """The matrix that makes the directions of latents less unequal, [c, c].

    The standard deviation of each principal direction becomes its square root, but for a factor
    that gives them all the usual size.

    Args:
        latents: counted from white, [n, c].
    """
    values, directions = torch.linalg.eigh((latents.T @ latents / len(latents)).double())
    values = values.clamp_min(SMALLEST_DIRECTION * values.max())
    mix = (directions * values**-MIXING_POWER) @ directions.T
    return (mix * (LATENT_SIZE / (latents.double() @ mix).square().mean().sqrt())).to(latents)
