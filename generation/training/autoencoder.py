"""The first stage: a small image autoencoder, whose latent space the other stages use.

    image on white [−1, 1] ─▶ encoder ─▶ mean, σ ─▶ mean + σ·noise ─▶ decoder ─▶ image
    loss = mean w |Δ| + edge_weight · mean |∇(w Δ)| + kl_weight · KL(N(mean, σ) ‖ N(0, 1))

The pixel weight w is 1 on the background and `object_weight` on the object, which covers only a
small part of most images: the white background is learned much sooner than the object's colors.

Each grid of a batch contributes images of every size, with about as many pixels for each size. The
network is `generation.models.patch_autoencoder`.

Letters: B grids of a batch, N images, S pixels on a side, c latent channels.

Source: Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models",
appendix G, for the loss, without its adversarial term.
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
from generation.models.vae import SCALE_FACTOR, to_uint8
from generation.training.clip_sampling import SampleRng, SamplingConfig
from generation.training.dataset import (
    Composite,
    GridStage,
    TrainingSample,
    composite_on_white,
    mean_psnr,
)
from generation.training.optimization import StageLoss
from generation.weights.catalogue import VAE_FILE
from generation.weights.files import save_weights
from recon.errors import InputError
from recon.media import tile_images

DRAWN_IMAGES = 8  # images of each size that are drawn
LATENT_RMS = 1 / SCALE_FACTOR  # root mean square of latents, as for the published VAE
MIXING_POWER = 0.25  # variances are divided by var^(2·power): 0 keeps them, 1/2 whitens
MIN_VARIANCE = 1e-4  # relative to the largest one; smaller variances are noise


@dataclass(frozen=True)
class AutoencoderConfig:
    """Configuration of the network, its images and its loss.

    Attributes:
        patch: see `PatchAutoencoderConfig`.
        latent_channels: see `PatchAutoencoderConfig`.
        width: see `PatchAutoencoderConfig`.
        encoder_blocks: see `PatchAutoencoderConfig`.
        decoder_blocks: see `PatchAutoencoderConfig`.
        views: number of views sampled from each grid.
        frames: number of frames sampled from each grid.
        max_stride: largest stride of the frames.
        sizes: sizes of the packed images to train on, "low", "high" or both.
        augment: whether to mirror images and permute their colors at random.
        object_weight: weight of the object's pixels relative to the background's.
        edge_weight: weight of the differences of neighboring pixels.
        kl_weight: weight of the KL divergence, a mean over all latent values.

    Raises:
        InputError: a number is out of range.
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
    augment: bool = False
    object_weight: float = 4.0
    edge_weight: float = 0.5
    kl_weight: float = 1e-4

    def __post_init__(self):
        self.network()
        if min(self.edge_weight, self.kl_weight) < 0 or self.object_weight <= 0:
            raise InputError(
                "expected edge_weight and kl_weight of at least 0 and object_weight above 0, found "
                f"{self.edge_weight}, {self.kl_weight} and {self.object_weight}"
            )

    def network(self) -> PatchAutoencoderConfig:
        """Return the configuration of the network."""
        return PatchAutoencoderConfig(
            self.patch, self.latent_channels, self.width, self.encoder_blocks, self.decoder_blocks
        )


class AutoencoderStage(GridStage):
    """Training stage of the autoencoder, a `generation.training.optimization.Stage`."""

    name = "vae"

    def __init__(self, config: AutoencoderConfig, seed: int = 0):
        """Build the network; `seed` initializes its weights."""
        self._config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = PatchAutoencoder(config.network())
        self.sampling = SamplingConfig(
            config.views,
            config.frames,
            max_stride=config.max_stride,
            random_reference=True,
            sizes=config.sizes,
            augment=config.augment,
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Stage.identity`."""
        return asdict(self._config)

    def loss(self, batch: TrainingSample, rng: SampleRng) -> StageLoss:
        """Compute the loss on images of all sizes; see `Stage.loss`."""
        terms = [self._terms(*each, rng) for each in _sampled_images(batch, rng)]
        parts = {name: torch.stack([each[name] for each in terms]).mean() for name in terms[0]}
        weights = {
            "difference": 1.0,
            "edges": self._config.edge_weight,
            "kl": self._config.kl_weight,
        }
        loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        return StageLoss(loss, {name: part.detach() for name, part in parts.items()})

    @torch.no_grad()
    def evaluate(self, samples: TrainingSample, rng: SampleRng) -> dict[str, float]:
        """Compute the mean PSNR of reconstructed images of each size in dB."""
        found = {}
        for size, target in samples.target.items():
            images = composite_on_white(target.flatten(0, 2)).rgb
            found[f"psnr_{size}"] = mean_psnr(self._reconstruct(images), images)
        return found

    @torch.no_grad()
    def images(self, samples: TrainingSample, rng: SampleRng) -> np.ndarray:
        """Draw a row of images above a row of reconstructions for each size."""
        rows = []
        for target in samples.target.values():
            images = composite_on_white(target[:, 0, 0][:DRAWN_IMAGES]).rgb
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
        """Write the network with the shift and mixing of its latents."""
        empty = torch.ones_like(next(iter(samples.target.values()))[0, 0, :1, :3].float())
        latent = self.module.encoder(empty)[0]
        white = latent[:, latent.shape[1] // 2, latent.shape[2] // 2, None, None]
        latents = [
            self.module.encoder(composite_on_white(target.flatten(0, 2)).rgb) - white
            for target in samples.target.values()
        ]
        mix = mixing_matrix(torch.cat([each.movedim(1, -1).flatten(0, -2) for each in latents]))
        normalization = {
            "encoder.white": white,
            "decoder.white": white,
            "encoder.mix": mix,
            "decoder.unmix": torch.linalg.inv(mix),
        }
        config = replace(self._config.network(), latent_scale=1 / LATENT_RMS)
        save_weights(folder / VAE_FILE, config, {**weights, **normalization}, dtype=dtype)

    def _terms(self, images: Tensor, mask: Tensor, rng: SampleRng) -> dict[str, Tensor]:
        """Compute the loss terms of images [B, N, 3, S, S] with alpha [B, N, 1, S, S], each []."""
        posterior = self.module.encoder.posterior(images.flatten(0, 1))
        mean, log_variance = (each.float().unflatten(0, images.shape[:2]) for each in posterior)
        std = (0.5 * log_variance).exp()
        latents = mean + std * rng.normal(*mean.shape[1:])
        decoded = self._decode(latents.flatten(0, 1)).unflatten(0, images.shape[:2])
        difference = (decoded - images) * (1 + (self._config.object_weight - 1) * mask)
        return {
            "difference": difference.abs().mean(),
            "edges": edge_loss(difference),
            "kl": 0.5 * (mean.square() + std.square() - 1 - log_variance).mean(),
        }

    def _reconstruct(self, images: Tensor) -> Tensor:
        """Encode and decode images through the mode of the posterior, in [−1, 1]."""
        return self._decode(self.module.encoder(images)).clamp(-1, 1)

    def _decode(self, latents: Tensor) -> Tensor:
        return self.module.decoder(latents).float()


def edge_loss(images: Tensor) -> Tensor:
    """Sum the mean absolute differences of vertical and of horizontal neighbors, []."""
    return images.diff(dim=-1).abs().mean() + images.diff(dim=-2).abs().mean()


def images_of_size(count: int, side: int, smallest: int) -> int:
    """Return how many images of side² have the pixels of `count` smallest ones, at least 1."""
    return max(1, count * smallest**2 // side**2)


def _sampled_images(batch: TrainingSample, rng: SampleRng) -> Sequence[Composite]:
    """Sample images of each grid for each size, [B, N, ...]."""
    smallest = min(images.shape[-1] for images in batch.target.values())
    sampled = []
    for target in batch.target.values():
        images = target.flatten(1, 2)
        count = images_of_size(images.shape[1], images.shape[-1], smallest)
        chosen = rng.permutation(images.shape[1])[:, :count]
        grids = torch.arange(len(images), device=images.device)[:, None]
        sampled.append(composite_on_white(images[grids, chosen]))
    return sampled


def _row(images: Tensor) -> list[np.ndarray]:
    """Convert images in [−1, 1], [N, 3, S, S], to N arrays, uint8, [S, S, 3]."""
    return list(to_uint8(images).permute(0, 2, 3, 1).cpu().numpy())


def mixing_matrix(latents: Tensor) -> Tensor:
    """Compute a matrix that partially whitens latents, [c, c].

    The standard deviation of each principal direction becomes proportional to its own square root,
    and the root mean square of the result is `LATENT_RMS`.

    Args:
        latents: latents minus the latent of white, [n, c].
    """
    values, directions = torch.linalg.eigh((latents.T @ latents / len(latents)).double())
    values = values.clamp_min(MIN_VARIANCE * values.max())
    mix = (directions * values**-MIXING_POWER) @ directions.T
    return (mix * (LATENT_RMS / (latents.double() @ mix).square().mean().sqrt())).to(latents)
