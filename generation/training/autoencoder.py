"""The first stage: a small image autoencoder, in whose latents the others work.

    image over white [−1, 1] ─▶ encoder ─▶ mean, σ ─▶ mean + σ·noise ─▶ decoder ─▶ image
    loss = mean |Δ| + edges · mean |∇Δ| + kl · KL(N(mean, σ) ‖ N(0, 1))

Each grid of a batch gives images of every size, few of the large ones, so that all sizes have about
as many pixels. The network is diffusers' AutoencoderKL without `post_quant_conv`, whose parts have
the names of `generation.models.vae`. Letters: B grids of a batch, N images, S pixels on a side.
What it does not know: cameras.

Source: loss without its adversarial part: Rombach et al., High-Resolution Image Synthesis with
Latent Diffusion Models, 2022, appendix G.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from generation.training.dataset import TrainingSample, over_white
from generation.training.draws import Draws
from generation.training.stage import StageLoss
from generation.training.training_choice import Selection
from generation.weights import load_module
from recon.errors import InputError, WeightsError

NAME = "vae"
WEIGHTS_NAME = "vae.safetensors"
FORMAT, VERSION = "fourdvd-vae", "1"
PICTURES_OF_A_SIZE = 8


@dataclass(frozen=True)
class AutoencoderSettings:
    """The network, its images and its loss.

    Attributes:
        widths: channels of each level; latents have 1/2^(levels − 1) of the image's side.
        blocks: residual blocks of a level of the encoder; the decoder has one more.
        latent_channels: of the latents.
        norm_groups: of group normalisation; each of the widths is a multiple.
        views: of each grid.
        frames: of each grid.
        max_stride: between two frames.
        sizes: of the images, as they are packed.
        edges: weight of the differences between neighbouring pixels.
        kl: weight of the KL divergence, a mean over the numbers of the latents.

    Raises:
        InputError: the numbers contradict each other.
    """

    widths: tuple[int, ...] = (32, 64, 96)
    blocks: int = 1
    latent_channels: int = 4
    norm_groups: int = 8
    views: int = 2
    frames: int = 2
    max_stride: int = 8
    sizes: tuple[str, ...] = ("low", "high")
    edges: float = 0.5
    kl: float = 1e-4

    def __post_init__(self):
        if min(self.blocks, self.latent_channels, self.norm_groups, *self.widths) < 1:
            raise InputError("widths, blocks, latent channels and groups must be at least 1")
        if any(width % self.norm_groups for width in self.widths):
            raise InputError(f"expected widths that are multiples of norm_groups, found {self}")
        if min(self.edges, self.kl) < 0:
            raise InputError("the weights of the loss must not be negative")


class AutoencoderStage:
    """Trains the autoencoder; a `generation.training.stage.Stage`."""

    name = NAME

    def __init__(self, settings: AutoencoderSettings, seed: int = 0):
        """A new network, whose weights the seed decides."""
        self._settings = settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = _network(_network_config(settings))
        self.selection = Selection(
            settings.views,
            settings.frames,
            max_stride=settings.max_stride,
            random_reference=True,
            sizes=settings.sizes,
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        """As JSON has them."""
        return asdict(self._settings)

    def loss(self, batch: TrainingSample, draws: Draws) -> StageLoss:
        """Of images of all sizes; see `Stage.loss`."""
        found = [self._loss_of(images, draws) for images in _drawn_images(batch, draws)]
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
        width = max(row.shape[1] for row in rows)
        padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        return np.concatenate(padded)

    @torch.no_grad()
    def save(
        self,
        folder: Path,
        weights: Mapping[str, Tensor],
        samples: TrainingSample,
        dtype: torch.dtype,
    ) -> None:
        """Writes the network with the factor that gives its latents unit variance."""
        latents = [
            self._posterior(over_white(target.flatten(0, 2)).rgb).mean.flatten()
            for target in samples.target.values()
        ]
        std = float(torch.cat(latents).float().std())
        config = _network_config(self._settings) | {"scaling_factor": 1 / std}
        tensors = {
            name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in weights.items()
        }
        metadata = {"format": FORMAT, "version": VERSION, "config": json.dumps(config)}
        save_file(tensors, folder / WEIGHTS_NAME, metadata)

    def _loss_of(self, images: Tensor, draws: Draws) -> dict[str, Tensor]:
        """The parts of the loss of [B, N, 3, S, S], each []."""
        posterior = self._posterior(images.flatten(0, 1))
        mean, std = (
            each.unflatten(0, images.shape[:2]) for each in (posterior.mean, posterior.std)
        )
        latents = mean + std * draws.normal(*mean.shape[1:])
        made = self._decode(latents.flatten(0, 1)).unflatten(0, images.shape[:2])
        difference = made - images
        return {
            "difference": difference.abs().mean(),
            "edges": edge_size(difference),
            "kl": posterior.kl().mean() / mean[0, 0].numel(),
        }

    def _reconstruct(self, images: Tensor) -> Tensor:
        """Images as they come back from the mode of their latents, in [−1, 1]."""
        return self._decode(self._posterior(images).mean).clamp(-1, 1)

    def _posterior(self, images: Tensor) -> DiagonalGaussianDistribution:
        moments = self.module.quant_conv(self.module.encoder(images))  # type: ignore[misc]
        return DiagonalGaussianDistribution(moments.float())

    def _decode(self, latents: Tensor) -> Tensor:
        return self.module.decoder(latents).float()


def load_autoencoder(path: Path) -> AutoencoderKL:
    """The autoencoder that a training has written; its config has the `scaling_factor`.

    Raises:
        WeightsError: the file is missing, damaged or none of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
            raise WeightsError(
                f"{path}: expected {FORMAT} of version {VERSION}; `fourdvd train vae` makes it"
            )
        with torch.device("meta"):
            network = _network(json.loads(metadata["config"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not an autoencoder that can be read ({error})") from error
    return load_module(network, tensors)


def edge_size(images: Tensor) -> Tensor:
    """Mean absolute differences of pixels one above and one beside the other, added: []."""
    return images.diff(dim=-1).abs().mean() + images.diff(dim=-2).abs().mean()


def images_of_size(count: int, side: int, smallest: int) -> int:
    """How many images have the pixels of `count` of the smallest size; at least one."""
    return max(1, count * smallest**2 // side**2)


def _drawn_images(batch: TrainingSample, draws: Draws) -> Sequence[Tensor]:
    """For each size, as many images of each grid as fit: [B, N, 3, S, S]."""
    smallest = min(images.shape[-1] for images in batch.target.values())
    drawn = []
    for target in batch.target.values():
        images = target.flatten(1, 2)
        count = images_of_size(images.shape[1], images.shape[-1], smallest)
        chosen = draws.permutation(images.shape[1])[:, :count]
        grids = torch.arange(len(images), device=images.device)[:, None]
        drawn.append(over_white(images[grids, chosen]).rgb)
    return drawn


def _network(config: Mapping[str, Any]) -> AutoencoderKL:
    return cast("AutoencoderKL", AutoencoderKL.from_config(dict(config)))


def _network_config(settings: AutoencoderSettings) -> dict[str, Any]:
    """In diffusers' words."""
    levels = len(settings.widths)
    return {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": list(settings.widths),
        "layers_per_block": settings.blocks,
        "latent_channels": settings.latent_channels,
        "norm_num_groups": settings.norm_groups,
        "use_post_quant_conv": False,
    }


def _row(images: Tensor) -> np.ndarray:
    """Images side by side, uint8, [S, N·S, 3]."""
    scaled = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(2, 0, 3, 1).flatten(1, 2).cpu().numpy()
