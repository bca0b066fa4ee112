"""The coarse stage: a LoRA on the base, for all views at once at the low size.

What it does not know: how the base was trained. Source: 4DVD, §3.3 and eq. 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from generation.models.lora import add_lora, lora_settings, lora_state
from generation.networks import predictor
from generation.training.conditions import Told, grid_told
from generation.training.dataset import TrainingSample
from generation.training.diffusion_stage import DiffusionStage, Task
from generation.training.draws import Draws
from generation.training.foundation import open_foundation
from generation.training.latents import LatentSpace
from generation.training.preceding import (
    ORBIT_STAGE,
    SIZE,
    PrecededSettings,
    Preceding,
    open_preceding,
    preceding_origins,
    reference_views_told,
)
from generation.training.stage_networks import Base, StageNetworks
from generation.training.whole_stages import grid_scale
from generation.weights.catalogue import LORA_FILE
from generation.weights.files import save_weights
from recon.errors import InputError


@dataclass(frozen=True)
class CoarseSettings(PrecededSettings):
    """Of the LoRA as well.

    Attributes:
        rank: see `LoraSettings`.
        alpha: see there.

    Raises:
        InputError: a number is out of its range.
    """

    views: int = 16
    rank: int = 16
    alpha: float = 16.0

    def __post_init__(self):
        super().__post_init__()
        if self.rank < 1:
            raise InputError(f"expected a rank of at least 1, found {self.rank}")


class CoarseNetworks(StageNetworks):
    """With those of the stage before.

    Attributes:
        preceding: makes reference views; None if only true ones are told.
    """

    def __init__(self, base: Base, space: LatentSpace, preceding: Preceding | None):
        super().__init__(base.unet, base.tower, space)
        self.preceding = preceding


class CoarseStage(DiffusionStage):
    """Trains the LoRA."""

    name = "coarse"
    module: CoarseNetworks

    def __init__(
        self,
        settings: CoarseSettings,
        vae: Path | None,
        base: Path,
        seed: int = 0,
        reference_views: Path | None = None,
    ):
        """A LoRA without effect.

        Args:
            settings: of the stage.
            vae: see `open_foundation`.
            base: see there.
            seed: of the LoRA's first factors.
            reference_views: see `open_preceding`.

        Raises:
            WeightsError, InputError: as `open_foundation` and `open_preceding`.
        """
        foundation = open_foundation(base, vae)
        self._base = foundation.base
        trainings = {ORBIT_STAGE: reference_views}
        preceding = open_preceding(settings, foundation, trainings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            add_lora(self._base.unet, settings.rank, settings.alpha)
        super().__init__(
            settings,
            CoarseNetworks(self._base, foundation.space, preceding),
            settings.selection(*([SIZE, settings.orbit_size] if preceding else [])),
            foundation.origins | preceding_origins(trainings),
        )

    def save(
        self,
        folder: Path,
        weights: Mapping[str, Tensor],
        samples: TrainingSample,
        dtype: torch.dtype,
    ) -> None:
        """Writes the LoRA."""
        unet, requires = self._base.unet, {"base": self._base.sha256}
        save_weights(
            folder / LORA_FILE, lora_settings(unet), lora_state(unet), requires, dtype=dtype
        )

    def _task(self, batch: TrainingSample, draws: Draws | None) -> Task:
        networks, size = self.module, self._settings.size
        made = networks.preceding and networks.preceding.make(batch, draws)
        views = reference_views_told(batch, size, made)
        told = grid_told(batch, size, networks.space, networks.tower, views)
        return Task(told, predictor(networks.unet))

    def _guidance(self, told: Told) -> Tensor:
        return grid_scale(told)
