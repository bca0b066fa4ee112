"""The stages that train a complete UNet with its image encoder.

They are

    reference-views    SV3D: image, cameras ─▶ views of the same time
    base               SV4D: video, cameras, reference views ─▶ all views of all times
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
from generation.training.clip_sampling import SampleRng
from generation.training.conditioning import (
    ConditionedBatch,
    grid_batch,
    orbit_batch,
    true_reference_views,
)
from generation.training.dataset import TrainingSample
from generation.training.diffusion_stage import DiffusionConfig, DiffusionStage, Task
from generation.training.stage_networks import (
    StageNetworks,
    freeze_without_effect,
    open_latent_space,
    open_trained_unet,
    save_unet,
)
from recon.errors import InputError, WeightsError

GRID_GUIDANCE = (1.0, 2.0)


@dataclass(frozen=True)
class UNetStageConfig(DiffusionConfig):
    """Configuration of a stage with the sizes of its networks.

    Attributes:
        model_channels: see `UNetConfig`.
        channel_mult: see `UNetConfig`.
        num_res_blocks: see `UNetConfig`.
        attention_resolutions: see `UNetConfig`.
        num_head_channels: see `UNetConfig`.
        context_dim: width of the image encoder's token.
        image_encoder_side: see `ConvImageEncoderConfig.side`.
        image_encoder_widths: see `ConvImageEncoderConfig.widths`.

    Raises:
        InputError: a number is out of range.
    """

    model_channels: int = 32
    channel_mult: tuple[int, ...] = (1, 2, 3)
    num_res_blocks: int = 1
    attention_resolutions: tuple[int, ...] = (1, 2, 4)
    num_head_channels: int = 32
    context_dim: int = 128
    image_encoder_side: int = 64
    image_encoder_widths: tuple[int, ...] = (32, 64, 64, 64)

    def image_encoder(self) -> ConvImageEncoderConfig:
        """Return the configuration of the image encoder."""
        return ConvImageEncoderConfig(
            self.image_encoder_side, self.image_encoder_widths, self.context_dim
        )

    def unet(self, latent_channels: int) -> dict[str, Any]:
        """Return the fields of the UNet's configuration.

        Raises:
            InputError: the sizes do not match each other.
        """
        if self.model_channels % 32 or self.model_channels % self.num_head_channels:
            raise InputError(
                "expected model_channels divisible by 32 and by num_head_channels, found "
                f"{self.model_channels} and {self.num_head_channels}"
            )
        names = (
            "model_channels", "channel_mult", "num_res_blocks", "attention_resolutions",
            "num_head_channels", "context_dim",
        )  # fmt: skip
        channels = {"in_channels": 2 * latent_channels, "out_channels": latent_channels}
        return {name: getattr(self, name) for name in names} | channels


@dataclass(frozen=True)
class ReferenceViewsConfig(UNetStageConfig):
    """Configuration of SV3D's training, on single frames.

    Raises:
        InputError: a number is out of range, or `frames` is not 1.
    """

    views: int = 16
    frames: int = 1

    def __post_init__(self):
        super().__post_init__()
        if self.frames != 1:
            raise InputError(f"expected 1 frame for reference views, found {self.frames}")


@dataclass(frozen=True)
class BaseConfig(UNetStageConfig):
    """Configuration of SV4D's training.

    Attributes:
        use_camera_emb: see `SV4DConfig`.
        separate_motion_merge_factor: see `SV4DConfig`.
    """

    use_camera_emb: bool = True
    separate_motion_merge_factor: bool = True


class UNetStage(DiffusionStage):
    """Training stage of a UNet and its image encoder."""

    kind: str

    def __init__(
        self, config: UNetStageConfig, vae: Path, seed: int = 0, start: Path | None = None
    ):
        """Build the networks with random weights, or with those of another training of the stage.

        Args:
            config: configuration of the stage.
            vae: folder of a finished training of the autoencoder.
            seed: seed of random weights.
            start: folder of a finished training of the same stage, e.g. at another image size.

        Raises:
            WeightsError: the autoencoder is missing, or the networks in `start` have other sizes.
            InputError: the sizes do not match each other.
        """
        space = open_latent_space(vae)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            unet = self._unet(config, space.channels)
            networks = StageNetworks(unet, ConvImageEncoder(config.image_encoder()), space)
        freeze_without_effect(networks.unet)
        origins = {"vae_sha256": space.sha256}
        super().__init__(config, networks, config.sampling(), origins)
        if start is not None:
            self._start_from(start)

    @staticmethod
    @abstractmethod
    def _unet(config: Any, latent_channels: int) -> SV3DUNet | SV4DUNet:
        """Build a UNet with random weights."""

    def save(
        self,
        folder: Path,
        weights: Mapping[str, Tensor],
        samples: TrainingSample,
        dtype: torch.dtype,
    ) -> None:
        """Write UNet and image encoder."""
        save_unet(folder, self.module, weights, dtype)

    def _start_from(self, folder: Path) -> None:
        trained = open_trained_unet(folder, self.name, self.kind, self.module.space)
        for own, other in (
            (self.module.unet, trained.unet),
            (self.module.image_encoder, trained.image_encoder),
        ):
            if own.config != other.config:
                raise WeightsError(
                    f"{folder}: expected a network of {own.config}, found {other.config}",
                    hint="set the configuration to the sizes it was trained with",
                )
            own.load_state_dict(other.state_dict())
        self._origins["start_sha256"] = trained.sha256


class ReferenceViewsStage(UNetStage):
    """Training stage of SV3D."""

    name, kind = "reference-views", "sv3d"

    @staticmethod
    def _unet(config: ReferenceViewsConfig, latent_channels: int) -> SV3DUNet:
        return SV3DUNet(UNetConfig(**config.unet(latent_channels)))

    def _task(self, batch: TrainingSample, rng: SampleRng | None) -> Task:
        networks = self.module
        conditioned = orbit_batch(batch, self._config.size, networks.space, networks.image_encoder)
        return Task(conditioned, predictor(networks.unet))

    def _guidance(self, batch: ConditionedBatch) -> Tensor:
        return orbit_scale(batch.images.shape[1], *ORBIT_GUIDANCE)


class BaseStage(UNetStage):
    """Training stage of SV4D."""

    name, kind = "base", "sv4d"

    @staticmethod
    def _unet(config: BaseConfig, latent_channels: int) -> SV4DUNet:
        variants = {
            "use_camera_emb": config.use_camera_emb,
            "separate_motion_merge_factor": config.separate_motion_merge_factor,
            "motion_context_dim": latent_channels,
        }
        return SV4DUNet(SV4DConfig(**config.unet(latent_channels), **variants))

    def _task(self, batch: TrainingSample, rng: SampleRng | None) -> Task:
        networks, size = self.module, self._config.size
        views = true_reference_views(batch, size)
        conditioned = grid_batch(batch, size, networks.space, networks.image_encoder, views)
        return Task(conditioned, predictor(networks.unet))

    def _guidance(self, batch: ConditionedBatch) -> Tensor:
        return grid_guidance(batch)


def grid_guidance(batch: ConditionedBatch) -> Tensor:
    """Compute SV4D's guidance scale of the frames of a batch, [F]."""
    times = batch.video.shape[1]
    return space_time_scale(times, batch.images.shape[1] // times, *GRID_GUIDANCE)
