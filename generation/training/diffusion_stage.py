"""What the four diffusion stages share: the loss, samples of held-out grids, their pictures.

    batch ─▶ task: what is told, what is to be made, who predicts it ─▶ loss
                                                                   └▶ 10 steps ─▶ images

Letters: B samples, T times, F frames of a call, V = F / T, S pixels on a side. What it does not
know: which network is trained, and what of it; subclasses say so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from generation.conditioning import without_image
from generation.diffusion import Predictor, euler, guided_denoiser, karras_sigmas, start
from generation.training.conditions import Told
from generation.training.dataset import TrainingSample
from generation.training.denoising_loss import denoising_loss, draw_sigmas, keep_some
from generation.training.draws import Draws
from generation.training.stage import StageLoss
from generation.training.stage_networks import StageNetworks
from generation.training.training_choice import Selection, Spacing
from recon.errors import InputError
from recon.media import tile_images

NOT_OF_THE_LOSS = ("recompute", "sampled", "steps", "guided")


@dataclass(frozen=True)
class DiffusionSettings:
    """What a stage sees of a grid, and its loss.

    Attributes:
        size: of the images, as they are packed: "low" or "high".
        views: V.
        frames: T.
        spacing: of the frames, see `training_choice.Spacing`.
        max_stride: between two consecutive frames.
        random_reference: whether any view may be the known one.
        varied: whether grids are also shown mirrored, in other colours and backwards.
        noise_mean: of ln σ.
        noise_std: of ln σ.
        drop: share of the samples that are trained without what is told, for guidance.
        recompute: whether features are computed again for the gradient instead of kept: a third
            more time, a fraction of the memory.
        sampled: held-out grids that are made at each score, and drawn.
        steps: of the sampler.
        guided: whether the sampler is led as the published networks are.

    Raises:
        InputError: a number is out of its range, or a name is not known.
    """

    size: str = "low"
    views: int = 4
    frames: int = 5
    spacing: str = "consecutive"
    max_stride: int = 4
    random_reference: bool = True
    varied: bool = False
    noise_mean: float = 0.7
    noise_std: float = 1.6
    drop: float = 0.1
    recompute: bool = False
    sampled: int = 2
    steps: int = 10
    guided: bool = True

    def __post_init__(self):
        if not (0 <= self.drop <= 1 and self.noise_std > 0):
            raise InputError("expected drop from 0 to 1 and noise_std above 0")
        if min(self.sampled, self.steps) < 1:
            raise InputError("at least one grid is sampled, in at least one step")
        if self.spacing not in list(Spacing):
            raise InputError(f"expected spacing to be one of {', '.join(Spacing)}")

    def selection(self, *more_sizes: str) -> Selection:
        """What is read of each grid, also at other sizes than the stage's own."""
        return Selection(
            self.views,
            self.frames,
            Spacing(self.spacing),
            self.max_stride,
            self.random_reference,
            tuple(dict.fromkeys((*more_sizes, self.size))),
            self.varied,
        )


class Task(NamedTuple):
    """What is to be made of a batch.

    Attributes:
        told: images and conditionings.
        predict: the network.
    """

    told: Told
    predict: Predictor


class DiffusionStage(ABC):
    """A `generation.training.stage.Stage`; subclasses have a `name` and build the networks."""

    name: str

    def __init__(
        self,
        settings: DiffusionSettings,
        module: StageNetworks,
        selection: Selection,
        origins: Mapping[str, str],
    ):
        """Of networks of which those parameters need gradients that are to be trained.

        Args:
            settings: of the stage.
            module: its networks.
            selection: what it sees of each grid.
            origins: hashes and names of what is frozen beside it, for its identity.
        """
        self.module, self.selection = module, selection
        self._settings, self._origins = settings, dict(origins)
        module.unet.gradient_checkpointing = settings.recompute

    @property
    def settings(self) -> Mapping[str, Any]:
        """As JSON has them."""
        own = {
            name: value
            for name, value in asdict(self._settings).items()  # type: ignore[call-overload]
            if name not in NOT_OF_THE_LOSS
        }
        return own | self._origins

    def loss(self, batch: TrainingSample, draws: Draws) -> StageLoss:
        """Of noisy latents; see `Stage.loss`."""
        task = self._task(batch, draws)
        kept = keep_some(task.told.conditionings, draws, self._settings.drop)
        latents, sigmas = self._targets(task.told), self._sigmas(draws)
        noise = draws.normal(*latents.shape[1:])
        return StageLoss(denoising_loss(task.predict, latents, kept, sigmas, noise).mean(), {})

    @torch.no_grad()
    def score(self, samples: TrainingSample, draws: Draws) -> dict[str, float]:
        """The loss of what is fully told; PSNR in dB of sampled images, their mean."""
        sigmas = self._sigmas(draws)
        losses = [
            denoising_loss(task.predict, latents, task.told.conditionings, sigma[None], noise)
            for sigma, (task, latents, noise) in zip(
                sigmas, self._one_by_one(samples, draws), strict=True
            )
        ]
        found = [_psnr(made, told.images[0]) for told, made in self._samples(samples, draws)]
        return {
            "held_out_loss": float(torch.cat(losses).mean()),
            "psnr": sum(found) / len(found),
        }

    @torch.no_grad()
    def pictures(self, samples: TrainingSample, draws: Draws) -> np.ndarray:
        """Of each sampled grid a block: a row for each time, in it what is known, truth, sample."""
        return tile_images(
            row for told, made in self._samples(samples, draws) for row in _rows(told, made)
        )

    @abstractmethod
    def save(
        self,
        folder: Path,
        weights: Mapping[str, Tensor],
        samples: TrainingSample,
        dtype: torch.dtype,
    ) -> None:
        """See `Stage.save`."""

    @abstractmethod
    def _task(self, batch: TrainingSample, draws: Draws | None) -> Task:
        """Of a batch; disturbed as in training if there are draws."""

    @abstractmethod
    def _guidance(self, told: Told) -> Tensor:
        """Scale of each frame, [F]."""

    def _sigmas(self, draws: Draws) -> Tensor:
        return draw_sigmas(draws, self._settings.noise_mean, self._settings.noise_std)

    def _targets(self, told: Told) -> Tensor:
        """Scaled latents, [B, F, c, s, s]."""
        return self.module.space.latents(told.images) * self.module.space.scale

    def _one_by_one(
        self, samples: TrainingSample, draws: Draws
    ) -> Iterator[tuple[Task, Tensor, Tensor]]:
        """Tasks of one held-out grid each, the true latents and noise, [1, F, c, s, s]."""
        noise: Tensor | None = None
        for index in range(len(samples.name)):
            task = self._task(one_of(samples, index), None)
            latents = self._targets(task.told)
            if noise is None:  # of all samples: nobody else knows its shape
                noise = draws.normal(*latents.shape[1:])
            yield task, latents, noise[index : index + 1]

    def _samples(self, samples: TrainingSample, draws: Draws) -> Iterator[tuple[Told, Tensor]]:
        """For some held-out grids, what was told, and the images that were made, [F, 3, S, S]."""
        for task, _, noise in islice(self._one_by_one(samples, draws), self._settings.sampled):
            yield task.told, self._sample(task, noise[0])

    def _sample(self, task: Task, noise: Tensor) -> Tensor:
        """Images from noise [F, c, s, s], by the pipeline's sampler."""
        conditioning, scale = task.told.conditionings[0], self._guidance(task.told)
        scale = scale if self._settings.guided else torch.ones_like(scale)
        denoise = guided_denoiser(
            task.predict, conditioning, without_image(conditioning), scale.to(noise.device)
        )
        sigmas = karras_sigmas(self._settings.steps)
        latents = euler([denoise], start(noise, sigmas), sigmas)
        return self.module.space.images(latents)


def one_of(samples: TrainingSample, index: int) -> TrainingSample:
    """A batch of the sample at an index of a batch."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: cut(each) for name, each in value.items()}
        return value[index : index + 1]

    return TrainingSample(*map(cut, samples))


def _psnr(made: Tensor, images: Tensor) -> float:
    """Mean of those of images [F, 3, S, S] in [−1, 1], in dB."""
    error = ((made - images) / 2).square().mean((1, 2, 3))
    return float(-10 * error.clamp_min(1e-10).log10().mean())


def _rows(told: Told, made: Tensor) -> list[list[np.ndarray]]:
    """T rows of 1 + 2 V images, uint8, [S, S, 3]."""
    times = told.video.shape[1]
    parts = (told.video[0], told.images[0], made)
    rows = torch.cat([part.unflatten(0, (times, -1)) for part in parts], dim=1)
    pixels = ((rows + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return [list(row) for row in pixels.movedim(2, -1).cpu().numpy()]
