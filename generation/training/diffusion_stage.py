"""Base class of the four diffusion stages: loss, evaluation, images.

    batch ─▶ task: conditioning, targets, network ─▶ loss
                                                 └─▶ sampler ─▶ images

Letters: B samples, T times, F frames of a network call, V = F / T, c channels, S pixels and s
latent pixels on a side.
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
from generation.models.vae import to_uint8
from generation.training.clip_sampling import SampleRng, SamplingConfig, Spacing
from generation.training.conditioning import ConditionedBatch, drop_conditioning
from generation.training.dataset import GridStage, TrainingSample, mean_psnr
from generation.training.loss import denoising_loss, sample_sigmas
from generation.training.optimization import StageLoss
from generation.training.stage_networks import StageNetworks
from recon.errors import InputError
from recon.media import tile_images

WITHOUT_EFFECT_ON_LOSS = ("gradient_checkpointing", "eval_grids", "sampler_steps", "guided")


@dataclass(frozen=True)
class DiffusionConfig:
    """Configuration of a diffusion stage.

    Attributes:
        size: size of the packed images, "low" or "high".
        views: number of views V.
        frames: number of frames T.
        spacing: spacing of the frames, see `clip_sampling.Spacing`.
        max_stride: maximum stride of consecutive frames.
        random_reference: whether the reference view is random; otherwise it is view 0.
        augment: whether to mirror, permute colors and reverse time at random.
        noise_mean: mean of ln σ.
        noise_std: standard deviation of ln σ.
        cond_drop_prob: probability of dropping the image conditioning of a sample.
        gradient_checkpointing: whether the backward pass recomputes features instead of storing
            them, which takes a third more time and a fraction of the memory.
        eval_grids: number of held-out grids to generate in each evaluation.
        sampler_steps: denoising steps of the sampler in evaluation.
        guided: whether evaluation uses classifier-free guidance with the published scales.

    Raises:
        InputError: a number is out of range, or a name is unknown.
    """

    size: str = "low"
    views: int = 4
    frames: int = 5
    spacing: str = "consecutive"
    max_stride: int = 4
    random_reference: bool = True
    augment: bool = False
    noise_mean: float = 0.7
    noise_std: float = 1.6
    cond_drop_prob: float = 0.1
    gradient_checkpointing: bool = False
    eval_grids: int = 2
    sampler_steps: int = 10
    guided: bool = True

    def __post_init__(self):
        if not (0 <= self.cond_drop_prob <= 1 and self.noise_std > 0):
            raise InputError(
                "expected cond_drop_prob in [0, 1] and noise_std above 0, found "
                f"{self.cond_drop_prob} and {self.noise_std}"
            )
        if min(self.eval_grids, self.sampler_steps) < 1:
            raise InputError(
                "expected eval_grids and sampler_steps of at least 1, found "
                f"{self.eval_grids} and {self.sampler_steps}"
            )
        if self.spacing not in list(Spacing):
            raise InputError(
                f"expected spacing to be one of {', '.join(Spacing)}, found {self.spacing!r}"
            )

    def sampling(self, *more_sizes: str) -> SamplingConfig:
        """Return what to sample from each grid, at the stage's image size and `more_sizes`."""
        return SamplingConfig(
            self.views,
            self.frames,
            Spacing(self.spacing),
            self.max_stride,
            self.random_reference,
            tuple(dict.fromkeys((*more_sizes, self.size))),
            self.augment,
        )


class Task(NamedTuple):
    """A denoising task.

    Attributes:
        batch: targets and conditioning.
        predict: the network.
    """

    batch: ConditionedBatch
    predict: Predictor


class DiffusionStage(GridStage, ABC):
    """Base class of a diffusion model's `Stage`; subclasses set `name` and build the networks."""

    name: str

    def __init__(
        self,
        config: DiffusionConfig,
        module: StageNetworks,
        sampling: SamplingConfig,
        origins: Mapping[str, str],
    ):
        """Take networks whose trainable parameters require gradients.

        Args:
            config: configuration of the stage.
            module: networks of the stage.
            sampling: views and frames to sample from each grid.
            origins: hashes and names of the frozen networks, for `identity`.
        """
        self.module, self.sampling = module, sampling
        self._config, self._origins = config, dict(origins)
        module.unet.gradient_checkpointing = config.gradient_checkpointing

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Stage.identity`."""
        own = {
            name: value
            for name, value in asdict(self._config).items()  # type: ignore[call-overload]
            if name not in WITHOUT_EFFECT_ON_LOSS
        }
        return own | self._origins

    def loss(self, batch: TrainingSample, rng: SampleRng) -> StageLoss:
        """Compute the denoising loss; see `Stage.loss`."""
        task = self._task(batch, rng)
        conditionings = drop_conditioning(
            task.batch.conditionings, rng, self._config.cond_drop_prob
        )
        latents, sigmas = self._targets(task.batch), self._sigmas(rng)
        noise = rng.normal(*latents.shape[1:])
        loss = denoising_loss(task.predict, latents, conditionings, sigmas, noise)
        return StageLoss(loss.mean(), {})

    @torch.no_grad()
    def evaluate(self, samples: TrainingSample, rng: SampleRng) -> dict[str, float]:
        """Compute the loss without conditioning dropout, and the PSNR of generated images in dB."""
        sigmas = self._sigmas(rng)
        losses = [
            denoising_loss(task.predict, latents, task.batch.conditionings, sigma[None], noise)
            for sigma, (task, latents, noise) in zip(
                sigmas, self._one_by_one(samples, rng), strict=True
            )
        ]
        psnr = [
            mean_psnr(images, batch.images[0]) for batch, images in self._generate(samples, rng)
        ]
        return {"held_out_loss": float(torch.cat(losses).mean()), "psnr": sum(psnr) / len(psnr)}

    @torch.no_grad()
    def images(self, samples: TrainingSample, rng: SampleRng) -> np.ndarray:
        """Draw a row for each time of each grid: input view, ground truth, generated views."""
        return tile_images(
            row for batch, images in self._generate(samples, rng) for row in _rows(batch, images)
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
    def _task(self, batch: TrainingSample, rng: SampleRng | None) -> Task:
        """Make the task of a batch; with an `rng`, apply the augmentations of training."""

    @abstractmethod
    def _guidance(self, batch: ConditionedBatch) -> Tensor:
        """Compute the guidance scale of each frame, [F]."""

    def _sigmas(self, rng: SampleRng) -> Tensor:
        return sample_sigmas(rng, self._config.noise_mean, self._config.noise_std)

    def _targets(self, batch: ConditionedBatch) -> Tensor:
        """Encode the target images to scaled latents, [B, F, c, s, s]."""
        return self.module.space.encode(batch.images) * self.module.space.scale

    def _one_by_one(
        self, samples: TrainingSample, rng: SampleRng
    ) -> Iterator[tuple[Task, Tensor, Tensor]]:
        """Yield task, target latents and noise of each held-out grid, [1, F, c, s, s]."""
        noise: Tensor | None = None
        for index in range(len(samples.name)):
            task = self._task(take_sample(samples, index), None)
            latents = self._targets(task.batch)
            if noise is None:  # generated for all samples, as soon as the shape is known
                noise = rng.normal(*latents.shape[1:])
            yield task, latents, noise[index : index + 1]

    def _generate(
        self, samples: TrainingSample, rng: SampleRng
    ) -> Iterator[tuple[ConditionedBatch, Tensor]]:
        """Yield `eval_grids` held-out grids with their generated images, [F, 3, S, S]."""
        for task, _, noise in islice(self._one_by_one(samples, rng), self._config.eval_grids):
            yield task.batch, self._sample(task, noise[0])

    def _sample(self, task: Task, noise: Tensor) -> Tensor:
        """Denoise [F, c, s, s] to images with the pipeline's sampler."""
        conditioning, scale = task.batch.conditionings[0], self._guidance(task.batch)
        scale = scale if self._config.guided else torch.ones_like(scale)
        denoise = guided_denoiser(
            task.predict, conditioning, without_image(conditioning), scale.to(noise.device)
        )
        sigmas = karras_sigmas(self._config.sampler_steps)
        latents = euler([denoise], start(noise, sigmas), sigmas)
        return self.module.space.decode(latents)


def take_sample(samples: TrainingSample, index: int) -> TrainingSample:
    """Return one sample of a batch as a batch of size 1."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: cut(each) for name, each in value.items()}
        return value[index : index + 1]

    return TrainingSample(*map(cut, samples))


def _rows(batch: ConditionedBatch, generated: Tensor) -> list[list[np.ndarray]]:
    """Make T rows of 1 + 2 V images, uint8, [S, S, 3]."""
    times = batch.video.shape[1]
    parts = (batch.video[0], batch.images[0], generated)
    rows = torch.cat([part.unflatten(0, (times, -1)) for part in parts], dim=1)
    return [list(row) for row in to_uint8(rows).movedim(2, -1).cpu().numpy()]
