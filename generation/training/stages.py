"""The stages by name: `fourdvd train STAGE` as one call.

    vae ─▶ reference-views ─▶ coarse ─▶ fine
     └───▶ base ───────────────┴─────────┘

Each stage of the cascade uses the finished trainings of the stages before it; `lift` needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from generation.training.autoencoder import AutoencoderConfig, AutoencoderStage
from generation.training.cascade_stages import CoarseConfig, CoarseStage, FineConfig, FineStage
from generation.training.config import read_config
from generation.training.engine import TrainingResult, train
from generation.training.lift_stage import LiftStage, LiftStageConfig
from generation.training.optimization import Stage
from generation.training.unet_stages import (
    BaseConfig,
    BaseStage,
    ReferenceViewsConfig,
    ReferenceViewsStage,
)
from recon.errors import InputError
from recon.progress import OnStep, ShouldStop, ignore_progress, never_stop


@dataclass(frozen=True)
class StageInputs:
    """Inputs of a stage apart from the data; each stage uses some of them.

    Attributes:
        vae: folder of the autoencoder's training, or an assembled one.
        base: folder of the base's training, an assembled one, or SV4D's published file.
        start: folder of another training of the same stage, whose weights initialize this one.
        reference_views: folder of SV3D's training, for training on its outputs.
        coarse: folder of the coarse stage's training, for training on its outputs.
        branch: the fine stage's branch, see `build_branch`.
        roles: the roles of its MAP, see `build_branch`.
        size: image size of the base, "low" or "high"; None for the configuration's.
        encoder: published weights of the image encoder of lift.
    """

    vae: Path | None = None
    base: Path | None = None
    start: Path | None = None
    reference_views: Path | None = None
    coarse: Path | None = None
    branch: str = "layerwise"
    roles: str = "reference_query"
    size: str | None = None
    encoder: Path | None = None


def train_stage(
    name: str,
    data: Sequence[str | Path],
    output: str | Path,
    inputs: StageInputs | None = None,
    *,
    config: str | Path = "mini",
    overrides: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    on_step: OnStep = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> TrainingResult:
    """Train one stage of the cascade, or resume its training.

    Args:
        name: name in `config.STAGES`.
        data: folders written by `fourdvd data pack`; for lift, by `fourdvd data bake`.
        output: folder of the training.
        inputs: inputs of the stage apart from the data.
        config: name of a configuration or path of a TOML file, see `read_config`.
        overrides: fields of `EngineConfig` that override the configuration.
        overwrite: whether to replace an existing training instead of resuming it.
        on_step: see `engine.train`.
        should_stop: see `engine.train`.

    Raises:
        InputError: the configuration is invalid, or the stage lacks an input.
        WeightsError: an input is missing, damaged or does not match another one.
        FourdvdError: see `engine.train`.

    Example:
        >>> train_stage("vae", ["shards"], "trainings/vae", overrides={"steps": 100})
        >>> train_stage("base", ["shards"], "trainings/base", StageInputs(Path("trainings/vae")))
    """
    kind, build = _STAGES[name]
    engine_config, stage_config = read_config(config, name, kind, overrides)
    stage = build(stage_config, inputs or StageInputs(), engine_config.seed)
    return train(
        stage,
        engine_config,
        data,
        output,
        overwrite=overwrite,
        on_step=on_step,
        should_stop=should_stop,
    )


def _needed(folder: Path | None, argument: str) -> Path:
    if folder is None:
        raise InputError("expected a path, because this stage needs it", argument=argument)
    return folder


def _vae(config: AutoencoderConfig, inputs: StageInputs, seed: int) -> Stage[Any]:
    return AutoencoderStage(config, seed)


def _reference_views(config: ReferenceViewsConfig, inputs: StageInputs, seed: int) -> Stage[Any]:
    return ReferenceViewsStage(config, _needed(inputs.vae, "vae"), seed, inputs.start)


def _base(config: BaseConfig, inputs: StageInputs, seed: int) -> Stage[Any]:
    config = config if inputs.size is None else replace(config, size=inputs.size)
    return BaseStage(config, _needed(inputs.vae, "vae"), seed, inputs.start)


def _coarse(config: CoarseConfig, inputs: StageInputs, seed: int) -> Stage[Any]:
    base = _needed(inputs.base, "base")
    return CoarseStage(config, inputs.vae, base, seed, inputs.reference_views)


def _fine(config: FineConfig, inputs: StageInputs, seed: int) -> Stage[Any]:
    base = _needed(inputs.base, "base")
    return FineStage(
        config,
        inputs.vae,
        base,
        seed,
        inputs.branch,
        inputs.roles,
        inputs.reference_views,
        inputs.coarse,
    )


def _lift(config: LiftStageConfig, inputs: StageInputs, seed: int) -> Stage[Any]:
    return LiftStage(config, seed, inputs.encoder, inputs.start)


class _Entry(NamedTuple):
    config: type[Any]
    build: Callable[[Any, StageInputs, int], Stage[Any]]


_STAGES = {
    "vae": _Entry(AutoencoderConfig, _vae),
    "reference-views": _Entry(ReferenceViewsConfig, _reference_views),
    "base": _Entry(BaseConfig, _base),
    "coarse": _Entry(CoarseConfig, _coarse),
    "fine": _Entry(FineConfig, _fine),
    "lift": _Entry(LiftStageConfig, _lift),
}
