"""The fine stage: a structure condition branch on the frozen base, for some views at the high size.

The branch is told coarse images that the stages before have made, as at the end, or true ones, a
little blurred and noisy. Letters: B samples, T times, V views, F = T·V. What it does not know: how
the base was trained. Source: 4DVD, §3.4 and eq. 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from generation.models.structure_branch import Structure, StructureBranch, build_branch
from generation.models.sv4d import SV4DUNet
from generation.networks import predictor
from generation.training.conditions import Told, grid_told, time_major
from generation.training.dataset import TrainingSample, over_white
from generation.training.diffusion_stage import DiffusionStage, Task
from generation.training.draws import Draws
from generation.training.foundation import open_foundation
from generation.training.latents import LatentSpace
from generation.training.preceding import (
    COARSE_STAGE,
    ORBIT_STAGE,
    SIZE,
    Made,
    PrecededSettings,
    Preceding,
    coarse_made,
    open_preceding,
    preceding_origins,
    reference_views_told,
)
from generation.training.stage_networks import (
    Base,
    StageNetworks,
    freeze_without_effect,
)
from generation.training.whole_stages import grid_scale
from generation.weights.catalogue import BRANCH_FILE
from generation.weights.files import save_weights
from recon.errors import InputError


@dataclass(frozen=True)
class FineSettings(PrecededSettings):
    """Of the branch as well.

    Attributes:
        coarse_blur: largest share of the mean over a window in true coarse images, in [0, 1].
        coarse_window: pixels on the window's side, odd: about as many as coarse grids that are made
            do not resolve.
        coarse_noise: largest standard deviation of the noise on their latents, in that of latents.

    Raises:
        InputError: a number is out of its range.
    """

    size: str = "high"
    coarse_blur: float = 0.5
    coarse_window: int = 3
    coarse_noise: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        if not (0 <= self.coarse_blur <= 1 and self.coarse_noise >= 0):
            raise InputError("expected coarse_blur from 0 to 1 and coarse_noise of at least 0")
        if self.coarse_window < 1 or self.coarse_window % 2 == 0:
            raise InputError(f"expected an odd coarse_window, found {self.coarse_window}")


class FineNetworks(StageNetworks):
    """With the branch, and those of the stages before.

    Attributes:
        branch: that is trained.
        preceding: makes reference views and coarse images; None if only true ones are told.
    """

    unet: SV4DUNet

    def __init__(
        self,
        base: Base,
        branch: StructureBranch,
        space: LatentSpace,
        preceding: Preceding | None,
    ):
        super().__init__(base.unet, base.tower, space)
        self.branch, self.preceding = branch, preceding


class FineStage(DiffusionStage):
    """Trains the branch."""

    name = "fine"
    module: FineNetworks
    _settings: FineSettings

    def __init__(
        self,
        settings: FineSettings,
        vae: Path | None,
        base: Path,
        seed: int = 0,
        branch: str = "layerwise",
        roles: str = "reference_query",
        reference_views: Path | None = None,
        coarse: Path | None = None,
    ):
        """A branch without effect.

        Args:
            settings: of the stage.
            vae: see `open_foundation`.
            base: see there.
            seed: of the branch's weights.
            branch: its name, see `build_branch`.
            roles: of its MAP, see there.
            reference_views: see `open_preceding`.
            coarse: see there.

        Raises:
            WeightsError: as `open_foundation` and `open_preceding`.
            InputError: likewise, or there is no such branch or role.
        """
        foundation = open_foundation(base, vae)
        opened = foundation.base
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = build_branch(branch, opened.unet.config, roles)
        made.init_from_unet(opened.unet)
        freeze_without_effect(made)
        trainings = {ORBIT_STAGE: reference_views, COARSE_STAGE: coarse}
        preceding = open_preceding(settings, foundation, trainings)
        self._base_sha256 = opened.sha256
        super().__init__(
            settings,
            FineNetworks(opened, made, foundation.space, preceding),
            settings.selection(SIZE, *([settings.orbit_size] if preceding else [])),
            foundation.origins | preceding_origins(trainings) | {"branch": branch, "roles": roles},
        )

    def save(
        self,
        folder: Path,
        weights: Mapping[str, Tensor],
        samples: TrainingSample,
        dtype: torch.dtype,
    ) -> None:
        """Writes the branch."""
        branch, requires = self.module.branch, {"base": self._base_sha256}
        save_weights(
            folder / BRANCH_FILE, branch.settings, branch.state_dict(), requires, dtype=dtype
        )

    def _task(self, batch: TrainingSample, draws: Draws | None) -> Task:
        networks, size = self.module, self._settings.size
        made = networks.preceding and networks.preceding.make(batch, draws)
        views = reference_views_told(batch, size, made)
        told = grid_told(batch, size, networks.space, networks.tower, views)
        times = told.video.shape[1]
        coarse = self._coarse(batch, draws, made).unflatten(1, (times, -1))
        video = networks.space.latents(told.video)
        return Task(told, predictor(networks.unet, networks.branch(Structure(coarse, video))))

    def _coarse(
        self, batch: TrainingSample, draws: Draws | None, made: Made | None = None
    ) -> Tensor:
        """Latents of the coarse images, [B, F, c, s, s]."""
        true = self._true_coarse(batch, draws)
        if made is None:
            return true
        generated = self.module.space.latents(coarse_made(batch, made))
        return torch.where(made.chosen[:, None, None, None, None], generated, true)

    def _true_coarse(self, batch: TrainingSample, draws: Draws | None) -> Tensor:
        space, images = self.module.space, over_white(time_major(batch.target[SIZE])).rgb
        if draws is None:
            return space.latents(images)
        blur = self._settings.coarse_blur * draws.uniform(1, 1, 1, 1)
        mean = blurred(images, self._settings.coarse_window)
        latents = space.latents(torch.lerp(images, mean, blur))
        std = self._settings.coarse_noise / space.scale * draws.uniform(1, 1, 1, 1)
        return latents + std * draws.normal(*latents.shape[1:])

    def _guidance(self, told: Told) -> Tensor:
        return grid_scale(told)


def blurred(images: Tensor, window: int) -> Tensor:
    """The mean of window × window pixels in the place of each, [..., 3, S, S]."""
    flat = pad(images.flatten(0, -4), (window // 2,) * 4, mode="replicate")
    return avg_pool2d(flat, window, stride=1).view(images.shape)
