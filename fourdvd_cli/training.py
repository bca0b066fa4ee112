"""`generation.training` as the command line runs it: with progress, stoppable, to be gone on with.

Where several processes train together, started by `torchrun -m fourdvd_cli`, the first one speaks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourdvd_cli import console, interrupts
from recon.devices import resolve_network_device

if TYPE_CHECKING:
    from generation.training.engine import Progress
    from generation.training.settings import EngineSettings, Settings
    from generation.training.stage import Stage

RANK_VARIABLE = "RANK"  # of this process among those that torchrun has started


@dataclass(frozen=True)
class TrainingChoices:
    """What a person chooses about a training; None leaves a number to the configuration.

    Attributes:
        shards: folders that `fourdvd data pack` has made.
        output: folder of the training.
        config: name or file of the configuration.
        steps: in all.
        batch: samples of a step.
        learning_rate: after the warm-up.
        seed: of everything random.
        device: "auto", "cpu" or "cuda".
        workers: processes that read samples.
        overwrite: whether to start again.
        quiet: show no progress.
    """

    shards: Sequence[Path]
    output: Path
    config: str = "mini"
    steps: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    seed: int | None = None
    device: str = "auto"
    workers: int | None = None
    overwrite: bool = False
    quiet: bool = False

    @property
    def overrides(self) -> dict[str, Any]:
        """What counts more than the configuration."""
        names = ("steps", "batch", "learning_rate", "seed", "workers")
        device = resolve_network_device(self.device)
        return {name: getattr(self, name) for name in names} | {"device": device}

    def settings(self, stage: str, kind: type[Settings]) -> tuple[EngineSettings, Settings]:
        """Of the loop and of a stage, from the configuration and these choices."""
        from generation.training.settings import read_settings

        return read_settings(self.config, stage, kind, self.overrides)


def train_vae(choices: TrainingChoices) -> dict[str, Any]:
    """Trains the autoencoder, and stops with a checkpoint when asked to.

    Returns:
        What came of it, as `--json` prints it.

    Raises:
        FourdvdError: as `generation.training.engine.train`; `Interrupted` after a signal.
    """
    with interrupts.stop_request() as should_stop:  # before the imports, which take seconds
        from generation.training.autoencoder import NAME, AutoencoderSettings, AutoencoderStage

        engine, own = choices.settings(NAME, AutoencoderSettings)
        stage = AutoencoderStage(own, engine.seed)
        return run_training(stage, engine, choices, should_stop)


def train_reference_views(
    choices: TrainingChoices, vae: Path, start: Path | None = None
) -> dict[str, Any]:
    """Trains SV3D in the latents of an autoencoder's training; see `train_base`."""
    with interrupts.stop_request() as should_stop:
        from generation.training.whole_stages import ReferenceViewsSettings, ReferenceViewsStage

        engine, own = choices.settings(ReferenceViewsStage.name, ReferenceViewsSettings)
        stage = ReferenceViewsStage(own, vae, engine.seed, start)
        return run_training(stage, engine, choices, should_stop)


def train_base(
    choices: TrainingChoices, vae: Path, start: Path | None, size: str | None = None
) -> dict[str, Any]:
    """Trains SV4D, from another training's networks if there is a start; see `train_vae`.

    Args:
        choices: as always.
        vae: folder of the autoencoder's training.
        start: folder of another training of the base, or None.
        size: of the images; the configuration's if None.
    """
    with interrupts.stop_request() as should_stop:
        from generation.training.whole_stages import BaseSettings, BaseStage

        engine, own = choices.settings(BaseStage.name, BaseSettings)
        own = own if size is None else replace(own, size=size)
        stage = BaseStage(own, vae, engine.seed, start)
        return run_training(stage, engine, choices, should_stop)


def train_coarse(
    choices: TrainingChoices, vae: Path | None, base: Path, reference_views: Path | None
) -> dict[str, Any]:
    """Trains the LoRA on a base's training, told what SV3D makes; see `train_vae`."""
    with interrupts.stop_request() as should_stop:
        from generation.training.coarse_stage import CoarseSettings, CoarseStage

        engine, own = choices.settings(CoarseStage.name, CoarseSettings)
        stage = CoarseStage(own, vae, base, engine.seed, reference_views)
        return run_training(stage, engine, choices, should_stop)


def train_fine(
    choices: TrainingChoices,
    vae: Path | None,
    base: Path,
    branch: str,
    roles: str,
    reference_views: Path | None,
    coarse: Path | None,
) -> dict[str, Any]:
    """Trains a structure branch on a base's training, told what the stages before make.

    See `train_vae`.
    """
    with interrupts.stop_request() as should_stop:
        from generation.training.fine_stage import FineSettings, FineStage

        engine, own = choices.settings(FineStage.name, FineSettings)
        stage = FineStage(own, vae, base, engine.seed, branch, roles, reference_views, coarse)
        return run_training(stage, engine, choices, should_stop)


def run_training(
    stage: Stage,
    engine: EngineSettings,
    choices: TrainingChoices,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Trains any stage and shows how it goes; see `train_vae`."""
    from generation.training.engine import train

    quiet = choices.quiet or int(os.environ.get(RANK_VARIABLE, "0")) > 0
    with console.progress("training", quiet) as report:
        trained = train(
            stage,
            engine,
            choices.shards,
            choices.output,
            overwrite=choices.overwrite,
            on_step=lambda step: report(step.step, step.steps, describe(step)),
            should_stop=should_stop,
        )
    if not quiet:
        console.say(f"wrote {trained.weights}: {_scores(trained.scores)}")
    return {"stage": stage.name, **asdict(trained), "weights": str(trained.weights)}


def describe(step: Progress) -> str:
    """The numbers that matter about a training that goes on."""
    left = timedelta(seconds=round(step.seconds_left))
    facts = (
        f"loss {step.loss:.4f}",
        *((_scores(step.scores),) if step.scores else ()),
        f"{step.samples_per_second:.3g} samples/s",
        f"{left} left",
    )
    return " · ".join(facts)


def _scores(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
