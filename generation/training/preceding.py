"""What the stages before make of a training sample, which a stage is told instead of the truth.

    known image ──SV3D──▶ reference views, all around ──coarse stage──▶ coarse views

At the end a stage is never told the truth: views that SV3D has made are softer, and those of a
coarse grid are not quite where they should be. A network that has seen true ones alone trusts them
too much, as autoregressive ones trust what they have written. Letters: B samples, n of them chosen,
T times, N views around the object, the known one first, s pixels on a side of coarse views. What it
does not know: which stage is trained.

Source: Bengio et al. 2015, "Scheduled sampling", §2.4, with a share that stays the same.
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
from generation.models.lora import merge_lora
from generation.networks import predictor
from generation.stages import enlarged, reduced
from generation.training.conditions import true_reference_views
from generation.training.dataset import TrainingSample, over_white
from generation.training.diffusion_stage import DiffusionSettings
from generation.training.draws import Draws
from generation.training.foundation import Foundation
from generation.training.results import UNET_NAME, trained_file
from generation.training.stage_networks import StageNetworks, open_whole
from generation.weights.catalogue import LORA_FILE
from generation.weights.files import load_lora
from generation.weights.verify import file_sha256
from recon.errors import InputError

SIZE = "low"  # of coarse views
ORBIT_STAGE, COARSE_STAGE = "reference-views", "coarse"  # names of the stages before


@dataclass(frozen=True)
class PrecededSettings(DiffusionSettings):
    """Of a stage that is told what others have made.

    Attributes:
        generated: share of the samples that are, in [0, 1]; the others are told the truth. Scores
            and pictures are of generated ones if there are any.
        generated_steps: of the sampler, which makes them without guidance.
        orbit_views: N, evenly around the object, as SV3D and coarse stage were trained; the grids'
            views are among them.
        orbit_size: of the images at which SV3D makes them, "low" or "high".

    Raises:
        InputError: a number is out of its range, or a name is not known.
    """

    generated: float = 0.0
    generated_steps: int = 1
    orbit_views: int = 16
    orbit_size: str = "low"

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.generated <= 1:
            raise InputError(f"expected generated from 0 to 1, found {self.generated}")
        if min(self.generated_steps, self.orbit_views) < 1:
            raise InputError("at least one step makes at least one view")


class Made(NamedTuple):
    """What the stages before have made of a batch.

    Attributes:
        chosen: which samples are told it, bool, [B]; the others' images are not looked at.
        reference_views: in [−1, 1], of any size, [B, N, 3, S, S].
        coarse: likewise, of all times, [B, T, N, 3, s, s]; None without a coarse stage.
    """

    chosen: Tensor
    reference_views: Tensor
    coarse: Tensor | None


class Preceding(nn.Module):
    """SV3D and, for the fine stage, the coarse stage, frozen."""

    def __init__(
        self, settings: PrecededSettings, views: StageNetworks, grid: StageNetworks | None
    ):
        """Of networks that work in the same latents.

        Args:
            settings: say how often and how they are asked.
            views: SV3D's.
            grid: the coarse stage's, its LoRA merged.
        """
        super().__init__()
        self.views, self.grid = views.requires_grad_(False), grid
        if grid is not None:
            grid.requires_grad_(False)
        self._settings = settings

    @torch.no_grad()
    def make(self, batch: TrainingSample, draws: Draws | None) -> Made:
        """For the chosen samples of a batch; without draws for all, with the same noise each time.

        Which numbers are drawn does not depend on what is chosen.
        """
        N, images = self._settings.orbit_views, self._known(batch, self._settings.orbit_size)
        B, device = len(images), images.device
        chosen = torch.ones(B, dtype=torch.bool, device=device)
        if draws is None:
            draws = Draws(0, 0, range(B), device)
        else:
            chosen = draws.uniform() < self._settings.generated
        elevation = batch.elevation_rad.mean(1)[chosen]
        vectors = _around(elevation, N)
        orbit_noise = draws.normal(N, *self.views.space.latents(images[:1]).shape[1:])
        views = images[:, None].repeat(1, N, 1, 1, 1)
        if len(elevation):
            views[chosen, 1:] = self._orbit(images[chosen], vectors, orbit_noise[chosen])
        if self.grid is None:
            return Made(chosen, views, None)
        video = over_white(batch.reference_video[SIZE]).rgb
        seen = reduced(views.flatten(0, 1), video.shape[-1]).unflatten(0, (B, N))
        seen[:, 0] = self._known(batch, SIZE)
        T, shape = video.shape[1], self.grid.space.latents(video[:1, 0]).shape[1:]
        noise = draws.normal(T * N, *shape)
        coarse = video[:, :, None].repeat(1, 1, N, 1, 1, 1)
        if len(elevation):
            coarse[chosen, :, 1:] = self._coarse(
                self.grid, video[chosen], vectors, seen[chosen], noise[chosen]
            )
        return Made(chosen, views, coarse)

    def _known(self, batch: TrainingSample, size: str) -> Tensor:
        """The known image, [B, 3, S, S]."""
        return over_white(batch.reference_image[size]).rgb

    def _orbit(self, images: Tensor, vectors: Tensor, noise: Tensor) -> Tensor:
        """Views of images [n, 3, S, S] in the order of the vectors, without the images' own."""
        networks, last = self.views, vectors.roll(-1, 1)  # SV3D has the known view at the end
        latents, tokens = networks.space.latents(images), networks.tower(images)
        told = map(orbit_conditioning, latents, tokens, last)
        return self._sampled(networks, list(told), noise)[:, :-1]

    def _coarse(
        self, networks: StageNetworks, video: Tensor, vectors: Tensor, views: Tensor, noise: Tensor
    ) -> Tensor:
        """Views of videos [n, T, 3, s, s] in the order of the vectors, without the videos' own."""
        n, T = video.shape[:2]
        tokens = networks.tower(video.flatten(0, 1)).unflatten(0, (n, T))
        latents, seen = networks.space.latents(video), networks.space.latents(views)
        told = map(grid_conditioning, latents, tokens, vectors, seen)
        return self._sampled(networks, list(told), noise).unflatten(1, (T, -1))[:, :, 1:]

    def _sampled(
        self, networks: StageNetworks, told: Sequence[Conditioning], noise: Tensor
    ) -> Tensor:
        """Images of noise [n, F, c, ·, ·], [n, F, 3, ·, ·]."""
        sigmas = karras_sigmas(self._settings.generated_steps)
        denoise = plain_denoiser(predictor(networks.unet), told)
        latents = euler([denoise], start(noise.flatten(0, 1), sigmas), sigmas)
        return networks.space.images(latents).unflatten(0, noise.shape[:2])


def reference_views_told(batch: TrainingSample, size: str, made: Made | None) -> Tensor:
    """Reference views over white of a size's pixels, in [−1, 1], [B, V, 3, S, S].

    Generated ones are brought to this size, and the known view is always the true one.
    """
    true = true_reference_views(batch, size)
    if made is None:
        return true
    numbers = view_numbers(batch, made.reference_views.shape[1])
    views = _picked(made.reference_views, numbers)
    smaller = reduced(views.flatten(0, 1), true.shape[-1]).unflatten(0, views.shape[:2])
    views = enlarged(smaller, true.shape[-1])
    generated = made.chosen[:, None] & (numbers != 0)
    return torch.where(generated[..., None, None, None], views, true)


def view_numbers(batch: TrainingSample, N: int) -> Tensor:
    """Which of N views around the object are nearest to those of the batch, int64, [B, V]."""
    return (batch.azimuth_rad * (N / (2 * math.pi))).round().long() % N


def coarse_made(batch: TrainingSample, made: Made) -> Tensor:
    """Coarse views at the times and views of a batch, [B, T·V, 3, s, s]."""
    assert made.coarse is not None
    numbers = view_numbers(batch, made.coarse.shape[2])
    times = (_picked(each, numbers) for each in made.coarse.unbind(1))
    return torch.stack(list(times), 1).flatten(1, 2)


def open_preceding(
    settings: PrecededSettings,
    foundation: Foundation,
    trainings: Mapping[str, Path | None],
) -> Preceding | None:
    """Reads what a stage needs to be told generated images.

    Args:
        settings: of the stage.
        foundation: on which it stands.
        trainings: folders of finished ones by stage, of all stages that it needs:
            "reference-views", in the same latents, and for the fine stage "coarse", on the same
            base.

    Returns:
        Nothing if all samples are told the truth.

    Raises:
        WeightsError: a training is missing, damaged, or of another autoencoder or base.
        InputError: a training is not named that the settings ask for, or the other way round.
    """
    wanted = settings.generated > 0
    for stage, folder in trainings.items():
        if wanted != (folder is not None):
            raise InputError(
                f"generated is {settings.generated:g} in the configuration, which "
                f"{'needs' if wanted else 'has no use for'} --{stage}"
            )
    views, coarse = trainings[ORBIT_STAGE], trainings.get(COARSE_STAGE)
    if views is None:
        return None
    space = foundation.space
    whole = open_whole(views, ORBIT_STAGE, "sv3d", space)
    networks = StageNetworks(whole.unet, whole.tower, space)
    return Preceding(settings, networks, coarse and _coarse_networks(foundation, coarse))


def preceding_origins(trainings: Mapping[str, Path | None]) -> dict[str, str]:
    """Hashes of the files of `open_preceding`, for the identity of a training."""
    files = {ORBIT_STAGE: UNET_NAME, COARSE_STAGE: LORA_FILE}
    return {
        f"{stage}_sha256": file_sha256(trained_file(folder, files[stage], stage))
        for stage, folder in trainings.items()
        if folder is not None
    }


def _coarse_networks(foundation: Foundation, folder: Path) -> StageNetworks:
    """The base with the LoRA of a training."""
    base = foundation.base
    unet = copy.deepcopy(base.unet)
    load_lora(trained_file(folder, LORA_FILE, COARSE_STAGE), unet, base.sha256)
    merge_lora(unet)
    return StageNetworks(unet, base.tower, foundation.space)


def _around(elevation_rad: Tensor, N: int) -> Tensor:
    """Camera vectors of N views evenly around n objects, the known one first, [n, N, width]."""
    n, device = len(elevation_rad), elevation_rad.device
    azimuth = torch.arange(N, device=device).repeat(n) * (2 * math.pi / N)
    polar = (math.pi / 2 - elevation_rad).repeat_interleave(N)
    return camera_vector(polar, azimuth).unflatten(0, (n, N))


def _picked(views: Tensor, numbers: Tensor) -> Tensor:
    """Some of the views [B, N, ...] of each sample, [B, V, ...]."""
    return views[torch.arange(len(views), device=views.device)[:, None], numbers]
