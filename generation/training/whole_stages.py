"""The stages that train a whole network from scratch, with a small image tower of its own.

    reference-views    SV3D: one image and cameras ─▶ views of the same time
    base               SV4D: a video, cameras, reference views ─▶ all views of all times

What it does not know: the cascade that stands on them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from generation.diffusion import orbit_scale, space_time_scale
from generation.models.image_encoders import ConvImageEncoder, ConvImageEncoderConfig
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import UNetConfig
from generation.networks import predictor
from generation.presets import ORBIT_GUIDANCE
from generation.training.conditions import Told, grid_told, orbit_told, true_reference_views
from generation.training.dataset import TrainingSample
from generation.training.diffusion_stage import DiffusionSettings, DiffusionStage, Task
from generation.training.draws import Draws
from generation.training.latents import open_latent_space
from generation.training.stage_networks import (
    StageNetworks,
    Whole,
    open_whole,
    save_whole,
    train_whole,
)
from recon.errors import InputError, WeightsError

GRID_SCALE = (1.0, 2.0)


@dataclass(frozen=True)
class WholeSettings(DiffusionSettings):
    """Sizes of the networks as well.

    Attributes:
        model_channels: see `UNetConfig`, as all that follow up to `context_dim`.
        channel_mult: see there.
        num_res_blocks: see there.
        attention_resolutions: see there.
        num_head_channels: see there.
        context_dim: see there; width of the tower's tokens.
        tower_side: see `ConvImageEncoderConfig`.
        tower_widths: see there.

    Raises:
        InputError: a number is out of its range.
    """

    model_channels: int = 32
    channel_mult: tuple[int, ...] = (1, 2, 3)
    num_res_blocks: int = 1
    attention_resolutions: tuple[int, ...] = (1, 2, 4)
    num_head_channels: int = 32
    context_dim: int = 128
    tower_side: int = 64
    tower_widths: tuple[int, ...] = (32, 64, 64, 64)

    def tower(self) -> ConvImageEncoderConfig:
        """Sizes of the tower."""
        return ConvImageEncoderConfig(self.tower_side, self.tower_widths, self.context_dim)

    def unet(self, latent_channels: int) -> dict[str, Any]:
        """Fields of the UNet's sizes.

        Raises:
            InputError: they do not fit each other.
        """
        if self.model_channels % 32 or self.model_channels % self.num_head_channels:
            raise InputError(
                "expected model_channels that are a multiple of 32 and of num_head_channels, found "
                f"{self.model_channels} and {self.num_head_channels}"
            )
        names = (
            "model_channels", "channel_mult", "num_res_blocks", "attention_resolutions",
            "num_head_channels", "context_dim",
        )  # fmt: skip
        channels = {"in_channels": 2 * latent_channels, "out_channels": latent_channels}
        return {name: getattr(self, name) for name in names} | channels


@dataclass(frozen=True)
class ReferenceViewsSettings(WholeSettings):
    """Of SV3D; it sees one time.

    Raises:
        InputError: a number is out of its range, or there are several frames.
    """

    views: int = 16
    frames: int = 1

    def __post_init__(self):
        super().__post_init__()
        if self.frames != 1:
            raise InputError("reference views are of one frame")


@dataclass(frozen=True)
class BaseSettings(WholeSettings):
    """Of SV4D.

    Attributes:
        use_camera_emb: see `SV4DConfig`.
        separate_motion_merge_factor: see there.
    """

    use_camera_emb: bool = True
    separate_motion_merge_factor: bool = True


class WholeStage(DiffusionStage):
    """UNet and tower are trained."""

    kind: str

    def __init__(
        self, settings: WholeSettings, vae: Path, seed: int = 0, start: Path | None = None
    ):
        """Fresh networks, or those of another training of the stage, such as one at another size.

        Args:
            settings: of the stage.
            vae: folder of a finished training of the autoencoder.
            seed: of fresh weights.
            start: folder of a finished training of the same stage; None for fresh networks.

        Raises:
            WeightsError: there is no autoencoder, or nothing of these sizes to start from.
            InputError: sizes do not fit each other.
        """
        space = open_latent_space(vae)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            unet = self._unet(settings, space.channels)
            networks = StageNetworks(unet, ConvImageEncoder(settings.tower()), space)
        train_whole(networks)
        origins = {"vae_sha256": space.sha256}
        super().__init__(settings, networks, settings.selection(), origins)
        if start is not None:
            self._take_over(open_whole(start, self.name, self.kind, space), start)

    @staticmethod
    @abstractmethod
    def _unet(settings: Any, latent_channels: int) -> SV3DUNet | SV4DUNet:
        """A fresh UNet."""

    def save(
        self,
        folder: Path,
        weights: Mapping[str, Tensor],
        samples: TrainingSample,
        dtype: torch.dtype,
    ) -> None:
        """Writes UNet and tower."""
        save_whole(folder, self.module, weights, dtype)

    def _take_over(self, other: Whole, folder: Path) -> None:
        ours = (self.module.unet, self.module.tower)
        for mine, theirs in zip(ours, (other.unet, other.tower), strict=True):
            if mine.config != theirs.config:
                raise WeightsError(
                    f"{folder}: expected a network of {mine.config}, found {theirs.config}",
                    hint="start with the sizes that it was trained with",
                )
            mine.load_state_dict(theirs.state_dict())
        self._origins["start_sha256"] = other.sha256


class ReferenceViewsStage(WholeStage):
    """Trains SV3D."""

    name, kind = "reference-views", "sv3d"

    @staticmethod
    def _unet(settings: ReferenceViewsSettings, latent_channels: int) -> SV3DUNet:
        return SV3DUNet(UNetConfig(**settings.unet(latent_channels)))

    def _task(self, batch: TrainingSample, draws: Draws | None) -> Task:
        networks = self.module
        told = orbit_told(batch, self._settings.size, networks.space, networks.tower)
        return Task(told, predictor(networks.unet))

    def _guidance(self, told: Told) -> Tensor:
        return orbit_scale(told.images.shape[1], *ORBIT_GUIDANCE)


class BaseStage(WholeStage):
    """Trains SV4D."""

    name, kind = "base", "sv4d"

    @staticmethod
    def _unet(settings: BaseSettings, latent_channels: int) -> SV4DUNet:
        variants = {
            "use_camera_emb": settings.use_camera_emb,
            "separate_motion_merge_factor": settings.separate_motion_merge_factor,
            "motion_context_dim": latent_channels,
        }
        return SV4DUNet(SV4DConfig(**settings.unet(latent_channels), **variants))

    def _task(self, batch: TrainingSample, draws: Draws | None) -> Task:
        networks = self.module
        size = self._settings.size
        views = true_reference_views(batch, size)
        told = grid_told(batch, size, networks.space, networks.tower, views)
        return Task(told, predictor(networks.unet))

    def _guidance(self, told: Told) -> Tensor:
        return grid_scale(told)


def grid_scale(told: Told) -> Tensor:
    """Guidance of a grid's frames, as SV4D's, [F]."""
    times = told.video.shape[1]
    return space_time_scale(times, told.images.shape[1] // times, *GRID_SCALE)
