"""The stages of 4DVD's cascade, which train a LoRA and a structure branch for the frozen base.

    coarse    a LoRA on SV4D: all views together at the low size
    fine      a structure branch: a few views at the high size, conditioned on the coarse grid

Both are trained on upstream model outputs or ground truth. The ground-truth coarse images of the
fine stage are augmented by blur and noise, so that the branch does not rely on their details.

Letters: B samples, T times, V views, F = T·V, c channels, S pixels and s latent pixels on a side.

Source: 4DVD, §3.3, §3.4, eq. 4 and 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from generation.models.lora import add_lora, lora_settings, lora_state
from generation.models.structure_branch import Structure, StructureBranch, build_branch
from generation.models.sv4d import SV4DUNet
from generation.networks import predictor
from generation.training.clip_sampling import SampleRng
from generation.training.conditioning import ConditionedBatch, grid_batch, time_major
from generation.training.dataset import TrainingSample, composite_on_white
from generation.training.diffusion_stage import DiffusionStage, Task
from generation.training.processes import gather
from generation.training.stage_networks import (
    FrozenBase,
    StageNetworks,
    freeze_without_effect,
    open_base,
)
from generation.training.unet_stages import grid_guidance
from generation.training.upstream_models import (
    COARSE_SIZE,
    COARSE_STAGE,
    ORBIT_STAGE,
    UpstreamConfig,
    UpstreamModels,
    UpstreamOutputs,
    open_upstream,
    select_coarse_views,
    select_reference_views,
    upstream_origins,
)
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE
from generation.weights.files import save_weights
from recon.errors import InputError


@dataclass(frozen=True)
class CoarseConfig(UpstreamConfig):
    """Configuration of the coarse stage.

    Attributes:
        rank: see `LoraSettings`.
        alpha: see `LoraSettings`.

    Raises:
        InputError: a number is out of range.
    """

    views: int = 16
    rank: int = 16
    alpha: float = 16.0

    def __post_init__(self):
        super().__post_init__()
        if self.rank < 1:
            raise InputError(f"expected a rank of at least 1, found {self.rank}")


@dataclass(frozen=True)
class FineConfig(UpstreamConfig):
    """Configuration of the fine stage.

    Attributes:
        coarse_blur: maximum weight of the blurred image in ground-truth coarse images, in [0, 1].
        coarse_window: side of the box blur in pixels, odd; about the size of the smallest details
            that generated coarse grids resolve.
        coarse_noise: maximum standard deviation of the noise on scaled coarse latents.

    Raises:
        InputError: a number is out of range.
    """

    size: str = "high"
    coarse_blur: float = 0.5
    coarse_window: int = 3
    coarse_noise: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        if not (0 <= self.coarse_blur <= 1 and self.coarse_noise >= 0):
            raise InputError(
                "expected coarse_blur in [0, 1] and coarse_noise of at least 0, found "
                f"{self.coarse_blur} and {self.coarse_noise}"
            )
        if self.coarse_window < 1 or self.coarse_window % 2 == 0:
            raise InputError(f"expected an odd coarse_window, found {self.coarse_window}")


class CascadeNetworks(StageNetworks):
    """The networks of the base with the structure branch and the upstream models, if any.

    Attributes:
        branch: the structure branch; None in the coarse stage.
        upstream: the upstream models; None for training on ground truth.
    """

    unet: SV4DUNet

    def __init__(
        self,
        base: FrozenBase,
        upstream: UpstreamModels | None,
        branch: StructureBranch | None = None,
    ):
        super().__init__(base.unet, base.image_encoder, base.space)
        self.upstream, self.branch = upstream, branch


class CascadeStage(DiffusionStage):
    """Training stage of a LoRA or a structure branch for the base."""

    module: CascadeNetworks
    _base_sha256: str

    def _conditioned(
        self, batch: TrainingSample, rng: SampleRng | None
    ) -> tuple[ConditionedBatch, UpstreamOutputs | None]:
        """Condition a batch on ground-truth or generated reference views.

        Returns:
            The batch, and the upstream outputs, None without upstream models.
        """
        networks, size = self.module, self._config.size
        outputs = networks.upstream and networks.upstream.generate(batch, rng)
        views = select_reference_views(batch, size, outputs)
        return grid_batch(batch, size, networks.space, networks.image_encoder, views), outputs

    def _guidance(self, batch: ConditionedBatch) -> Tensor:
        return grid_guidance(batch)


class CoarseStage(CascadeStage):
    """Training stage of the LoRA."""

    name = "coarse"

    def __init__(
        self,
        config: CoarseConfig,
        vae: Path | None,
        base: Path,
        seed: int = 0,
        reference_views: Path | None = None,
    ):
        """Add an untrained LoRA to the base.

        Args:
            config: configuration of the stage.
            vae: see `open_base`.
            base: see `open_base`.
            seed: seed of the LoRA's initialization.
            reference_views: see `open_upstream`.

        Raises:
            WeightsError, InputError: see `open_base` and `open_upstream`.
        """
        opened, trainings = open_base(base, vae), {ORBIT_STAGE: reference_views}
        upstream = open_upstream(config, opened, trainings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            add_lora(opened.unet, config.rank, config.alpha)
        self._base_sha256 = opened.sha256
        super().__init__(
            config,
            CascadeNetworks(opened, upstream),
            config.sampling(*([COARSE_SIZE, config.orbit_size] if upstream else [])),
            opened.origins | upstream_origins(trainings),
        )

    def save(
        self,
        folder: Path,
        weights: Mapping[str, Tensor],
        samples: TrainingSample,
        dtype: torch.dtype,
    ) -> None:
        """Write the LoRA."""
        unet, requires = self.module.unet, {"base": self._base_sha256}
        state = {name: gather(tensor) for name, tensor in lora_state(unet).items()}
        save_weights(folder / LORA_FILE, lora_settings(unet), state, requires, dtype=dtype)

    def _task(self, batch: TrainingSample, rng: SampleRng | None) -> Task:
        conditioned, _ = self._conditioned(batch, rng)
        return Task(conditioned, predictor(self.module.unet))


class FineStage(CascadeStage):
    """Training stage of the structure branch."""

    name = "fine"
    _config: FineConfig

    def __init__(
        self,
        config: FineConfig,
        vae: Path | None,
        base: Path,
        seed: int = 0,
        branch: str = "layerwise",
        roles: str = "reference_query",
        reference_views: Path | None = None,
        coarse: Path | None = None,
    ):
        """Build an untrained branch.

        Args:
            config: configuration of the stage.
            vae: see `open_base`.
            base: see `open_base`.
            seed: seed of the branch's initialization.
            branch: see `build_branch`.
            roles: see `build_branch`.
            reference_views: see `open_upstream`.
            coarse: see `open_upstream`.

        Raises:
            WeightsError: see `open_base` and `open_upstream`.
            InputError: see there; or `branch` or `roles` is unknown.
        """
        opened = open_base(base, vae)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            built = build_branch(branch, opened.unet.config, roles)
        built.init_from_unet(opened.unet)
        freeze_without_effect(built)
        trainings = {ORBIT_STAGE: reference_views, COARSE_STAGE: coarse}
        upstream = open_upstream(config, opened, trainings)
        self._base_sha256 = opened.sha256
        super().__init__(
            config,
            CascadeNetworks(opened, upstream, built),
            config.sampling(COARSE_SIZE, *([config.orbit_size] if upstream else [])),
            opened.origins | upstream_origins(trainings) | {"branch": branch, "roles": roles},
        )

    def save(
        self,
        folder: Path,
        weights: Mapping[str, Tensor],
        samples: TrainingSample,
        dtype: torch.dtype,
    ) -> None:
        """Write the branch."""
        branch, requires = self._branch, {"base": self._base_sha256}
        state = {name: gather(tensor) for name, tensor in branch.state_dict().items()}
        save_weights(folder / BRANCH_FILE, branch.settings, state, requires, dtype=dtype)

    @property
    def _branch(self) -> StructureBranch:
        assert self.module.branch is not None
        return self.module.branch

    def _task(self, batch: TrainingSample, rng: SampleRng | None) -> Task:
        conditioned, outputs = self._conditioned(batch, rng)
        times = conditioned.video.shape[1]
        coarse = self._coarse_latents(batch, rng, outputs).unflatten(1, (times, -1))
        structure = Structure(coarse, self.module.space.encode(conditioned.video))
        return Task(conditioned, predictor(self.module.unet, self._branch(structure)))

    def _coarse_latents(
        self, batch: TrainingSample, rng: SampleRng | None, outputs: UpstreamOutputs | None = None
    ) -> Tensor:
        """Encode ground-truth or generated coarse images to latents, [B, F, c, s, s]."""
        true = self._true_coarse_latents(batch, rng)
        if outputs is None:
            return true
        generated = self.module.space.encode(select_coarse_views(batch, outputs))
        return torch.where(outputs.chosen[:, None, None, None, None], generated, true)

    def _true_coarse_latents(self, batch: TrainingSample, rng: SampleRng | None) -> Tensor:
        """Encode ground-truth coarse images; with an `rng`, augment them by blur and noise."""
        space = self.module.space
        images = composite_on_white(time_major(batch.target[COARSE_SIZE])).rgb
        if rng is None:
            return space.encode(images)
        blur = self._config.coarse_blur * rng.uniform(1, 1, 1, 1)
        blurred = box_blur(images, self._config.coarse_window)
        latents = space.encode(torch.lerp(images, blurred, blur))
        std = self._config.coarse_noise / space.scale * rng.uniform(1, 1, 1, 1)
        return latents + std * rng.normal(*latents.shape[1:])


def box_blur(images: Tensor, window: int) -> Tensor:
    """Replace each pixel by the mean of window × window pixels, [..., 3, S, S]."""
    flat = pad(images.flatten(0, -4), (window // 2,) * 4, mode="replicate")
    return avg_pool2d(flat, window, stride=1).view(images.shape)
