"""Training on upstream model outputs: a stage is conditioned on images of earlier stages.

    reference image ──SV3D──▶ reference views ──coarse stage──▶ coarse views

At inference no stage gets ground truth: SV3D's views are softer than real ones, and the views of a
coarse grid are slightly displaced. A network that is trained on ground truth only relies on it too
much (the exposure bias of autoregressive models).

Letters: B samples, n of them conditioned on upstream outputs, T times, N views around the object
(the reference view first), s pixels on a side of coarse views.

Source: Bengio et al. 2015, "Scheduled sampling", §2.4, with a constant probability.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from generation.conditioning import (
    Conditioning,
    camera_vector,
    grid_conditioning,
    orbit_conditioning,
)
from generation.diffusion import euler, karras_sigmas, plain_denoiser, start
from generation.grid_sampler import enlarged, reduced
from generation.models.lora import merge_lora
from generation.networks import predictor
from generation.training.clip_sampling import SampleRng
from generation.training.conditioning import true_reference_views
from generation.training.dataset import TrainingSample, composite_on_white
from generation.training.diffusion_stage import DiffusionConfig
from generation.training.results import UNET_NAME, trained_file
from generation.training.stage_networks import FrozenBase, StageNetworks, open_trained_unet
from generation.weights.catalogue import LORA_FILE
from generation.weights.files import load_lora
from generation.weights.verify import file_sha256
from recon.errors import InputError

COARSE_SIZE = "low"
ORBIT_STAGE, COARSE_STAGE = "reference-views", "coarse"


@dataclass(frozen=True)
class UpstreamConfig(DiffusionConfig):
    """Configuration of a stage that trains on upstream model outputs.

    Attributes:
        upstream_prob: probability of conditioning a sample on upstream outputs instead of ground
            truth, in [0, 1]. If it is above 0, evaluation uses upstream outputs only.
        upstream_steps: denoising steps of the upstream models, which use no guidance.
        orbit_views: number of views N, evenly around the object, with which SV3D and the coarse
            stage were trained; the views of the grids must be among them.
        orbit_size: image size at which SV3D generates, "low" or "high".

    Raises:
        InputError: a number is out of range, or a name is unknown.
    """

    upstream_prob: float = 0.0
    upstream_steps: int = 1
    orbit_views: int = 16
    orbit_size: str = "low"

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.upstream_prob <= 1:
            raise InputError(f"expected upstream_prob in [0, 1], found {self.upstream_prob}")
        if min(self.upstream_steps, self.orbit_views) < 1:
            raise InputError(
                "expected upstream_steps and orbit_views of at least 1, found "
                f"{self.upstream_steps} and {self.orbit_views}"
            )


class UpstreamOutputs(NamedTuple):
    """Images that the upstream models generate for a batch.

    Attributes:
        chosen: mask of the samples that are conditioned on these images, bool, [B]; the images of
            other samples are undefined.
        reference_views: reference views in [−1, 1], of any size, [B, N, 3, S, S].
        coarse: coarse views in [−1, 1], [B, T, N, 3, s, s]; None without a coarse stage.
    """

    chosen: Tensor
    reference_views: Tensor
    coarse: Tensor | None


class UpstreamModels(nn.Module):
    """The frozen upstream models: SV3D, and for the fine stage also the coarse stage."""

    def __init__(self, config: UpstreamConfig, orbit: StageNetworks, coarse: StageNetworks | None):
        """Freeze the networks, which share a latent space.

        Args:
            config: probability and sampling.
            orbit: SV3D's networks.
            coarse: the coarse stage's networks, with its LoRA merged.
        """
        super().__init__()
        self.orbit, self.coarse = orbit.requires_grad_(False), coarse
        if coarse is not None:
            coarse.requires_grad_(False)
        self._config = config

    @torch.no_grad()
    def generate(self, batch: TrainingSample, rng: SampleRng | None) -> UpstreamOutputs:
        """Generate images for random samples of a batch; without `rng` for all, with fixed noise.

        The number of random numbers used does not depend on which samples are chosen.
        """
        N, images = self._config.orbit_views, _reference_image(batch, self._config.orbit_size)
        B, device = len(images), images.device
        chosen = torch.ones(B, dtype=torch.bool, device=device)
        if rng is None:
            rng = SampleRng(0, 0, range(B), device)
        else:
            chosen = rng.uniform() < self._config.upstream_prob
        elevation = batch.elevation_rad.mean(1)[chosen]
        vectors = _orbit_vectors(elevation, N)
        orbit_noise = rng.normal(N, *self.orbit.space.encode(images[:1]).shape[1:])
        views = images[:, None].repeat(1, N, 1, 1, 1)
        if len(elevation):
            views[chosen, 1:] = self._generate_orbit(images[chosen], vectors, orbit_noise[chosen])
        if self.coarse is None:
            return UpstreamOutputs(chosen, views, None)
        video = composite_on_white(batch.reference_video[COARSE_SIZE]).rgb
        reference = reduced(views.flatten(0, 1), video.shape[-1]).unflatten(0, (B, N))
        reference[:, 0] = _reference_image(batch, COARSE_SIZE)
        T, shape = video.shape[1], self.coarse.space.encode(video[:1, 0]).shape[1:]
        noise = rng.normal(T * N, *shape)
        coarse = video[:, :, None].repeat(1, 1, N, 1, 1, 1)
        if len(elevation):
            coarse[chosen, :, 1:] = self._generate_coarse(
                self.coarse, video[chosen], vectors, reference[chosen], noise[chosen]
            )
        return UpstreamOutputs(chosen, views, coarse)

    def _generate_orbit(self, images: Tensor, vectors: Tensor, noise: Tensor) -> Tensor:
        """Generate views of images [n, 3, S, S] in the order of the vectors, but the first."""
        networks, last = self.orbit, vectors.roll(-1, 1)  # SV3D's reference view is the last one
        latents, tokens = networks.space.encode(images), networks.image_encoder(images)
        conditionings = map(orbit_conditioning, latents, tokens, last)
        return self._generate(networks, list(conditionings), noise)[:, :-1]

    def _generate_coarse(
        self,
        networks: StageNetworks,
        video: Tensor,
        vectors: Tensor,
        views: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """Generate views of videos [n, T, 3, s, s] in the order of the vectors, but the first."""
        n, T = video.shape[:2]
        tokens = networks.image_encoder(video.flatten(0, 1)).unflatten(0, (n, T))
        latents, reference = networks.space.encode(video), networks.space.encode(views)
        conditionings = map(grid_conditioning, latents, tokens, vectors, reference)
        images = self._generate(networks, list(conditionings), noise)
        return images.unflatten(1, (T, -1))[:, :, 1:]

    def _generate(
        self, networks: StageNetworks, conditionings: Sequence[Conditioning], noise: Tensor
    ) -> Tensor:
        """Denoise [n, F, c, ·, ·] to images [n, F, 3, ·, ·]."""
        sigmas = karras_sigmas(self._config.upstream_steps)
        denoise = plain_denoiser(predictor(networks.unet), conditionings)
        latents = euler([denoise], start(noise.flatten(0, 1), sigmas), sigmas)
        return networks.space.decode(latents).unflatten(0, noise.shape[:2])


def select_reference_views(
    batch: TrainingSample, size: str, outputs: UpstreamOutputs | None
) -> Tensor:
    """Select ground-truth or generated reference views, on white, in [−1, 1], [B, V, 3, S, S].

    Generated views are resized to the given size; the reference view itself is never generated.
    """
    true = true_reference_views(batch, size)
    if outputs is None:
        return true
    indices = view_indices(batch, outputs.reference_views.shape[1])
    views = _select(outputs.reference_views, indices)
    smaller = reduced(views.flatten(0, 1), true.shape[-1]).unflatten(0, views.shape[:2])
    views = enlarged(smaller, true.shape[-1])
    generated = outputs.chosen[:, None] & (indices != 0)
    return torch.where(generated[..., None, None, None], views, true)


def select_coarse_views(batch: TrainingSample, outputs: UpstreamOutputs) -> Tensor:
    """Select the generated coarse views at the times and views of a batch, [B, T·V, 3, s, s]."""
    assert outputs.coarse is not None
    indices = view_indices(batch, outputs.coarse.shape[2])
    times = (_select(each, indices) for each in outputs.coarse.unbind(1))
    return torch.stack(list(times), 1).flatten(1, 2)


def view_indices(batch: TrainingSample, N: int) -> Tensor:
    """Return the index of the nearest of N views around the object to each view, int64, [B, V]."""
    return (batch.azimuth_rad * (N / (2 * math.pi))).round().long() % N


def open_upstream(
    config: UpstreamConfig, base: FrozenBase, trainings: Mapping[str, Path | None]
) -> UpstreamModels | None:
    """Load the upstream models of a stage.

    Args:
        config: configuration of the stage.
        base: the base on which it is trained.
        trainings: folders of the finished upstream trainings by stage: "reference-views", in the
            same latent space, and for the fine stage "coarse", on the same base.

    Returns:
        The upstream models; None if `upstream_prob` is 0.

    Raises:
        WeightsError: a training is missing or damaged, or has another autoencoder or base.
        InputError: a training is missing that the configuration needs, or given but not used.
    """
    needed = config.upstream_prob > 0
    for stage, folder in trainings.items():
        if needed != (folder is not None):
            raise InputError(
                f"the configuration has upstream_prob = {config.upstream_prob:g}, which "
                f"{'needs' if needed else 'does not use'} --{stage}; "
                f"{'pass' if needed else 'omit'} --{stage}, or change upstream_prob"
            )
    orbit, coarse = trainings[ORBIT_STAGE], trainings.get(COARSE_STAGE)
    if orbit is None:
        return None
    sv3d = open_trained_unet(orbit, ORBIT_STAGE, "sv3d", base.space)
    networks = StageNetworks(sv3d.unet, sv3d.image_encoder, base.space)
    return UpstreamModels(config, networks, coarse and _open_coarse(base, coarse))


def upstream_origins(trainings: Mapping[str, Path | None]) -> dict[str, str]:
    """Return the sha256 of the upstream models' files, for the identity of a training."""
    files = {ORBIT_STAGE: UNET_NAME, COARSE_STAGE: LORA_FILE}
    return {
        f"{stage}_sha256": file_sha256(trained_file(folder, files[stage], stage))
        for stage, folder in trainings.items()
        if folder is not None
    }


def _open_coarse(base: FrozenBase, folder: Path) -> StageNetworks:
    """Load the base with the LoRA of a finished training merged."""
    unet = copy.deepcopy(base.unet)
    load_lora(trained_file(folder, LORA_FILE, COARSE_STAGE), unet, base.sha256)
    merge_lora(unet)
    return StageNetworks(unet, base.image_encoder, base.space)


def _reference_image(batch: TrainingSample, size: str) -> Tensor:
    """Return the reference images on white, in [−1, 1], [B, 3, S, S]."""
    return composite_on_white(batch.reference_image[size]).rgb


def _orbit_vectors(elevation_rad: Tensor, N: int) -> Tensor:
    """Embed N views evenly around n objects, the reference view first, [n, N, width]."""
    n, device = len(elevation_rad), elevation_rad.device
    azimuth = torch.arange(N, device=device).repeat(n) * (2 * math.pi / N)
    polar = (math.pi / 2 - elevation_rad).repeat_interleave(N)
    return camera_vector(polar, azimuth).unflatten(0, (n, N))


def _select(views: Tensor, indices: Tensor) -> Tensor:
    """Select views [B, N, ...] at indices [B, V]; [B, V, ...]."""
    return views[torch.arange(len(views), device=views.device)[:, None], indices]
