"""Measure steps per second of `train lift`, in the precision of its configuration.

    python -m tests.benchmarks.lift_training [--seconds 15] [--batch 16] [--no-page]

The network starts from the bundled weights and trains on procedurally generated characters. Two
rates are measured: that of `train lift`, whose workers draw the samples meanwhile, and that of the
device alone, which repeats one batch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from generation.curation.figures.asset import figure_assets
from generation.curation.render.batch import AssetBatch
from generation.curation.render.settings import BakeSettings
from generation.training.batches import Batches
from generation.training.config import EngineConfig, read_config
from generation.training.engine import train
from generation.training.lift_stage import LiftStage, LiftStageConfig
from generation.training.optimization import Optimization
from generation.training.processes import on_device, started_processes
from generation.weights.store import find_lift
from recon.devices import usable_cores
from recon.errors import Interrupted
from recon.progress import Progress
from tests.benchmarks import harness

CHARACTERS = 8
WARM_UP = 3  # steps that are not counted
ENDLESS = 10**6  # steps


@dataclass(frozen=True)
class Training:
    """A training that is measured.

    Attributes:
        data: folder of baked assets.
        engine: configuration of the loop.
        stage: configuration of the stage.
        start: folder of the weights to start from.
    """

    data: Path
    engine: EngineConfig
    stage: LiftStageConfig
    start: Path

    def new_stage(self) -> LiftStage:
        """Build the network."""
        return LiftStage(self.stage, start=self.start)


def main(arguments: Sequence[str] | None = None) -> None:
    on_cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.lift_training")
    parser.add_argument("--seconds", type=float, default=15.0, help="for each of two measurements")
    parser.add_argument("--batch", type=int, help="samples in a step (default: configuration)")
    harness.add_options(parser, "lift-training")
    options = parser.parse_args(arguments)
    device = "cuda" if on_cuda else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        training = full_training(Path(folder), device, options.batch)
        rates = {
            "device alone": device_rate(training, options.seconds),
            "`train lift`": training_rate(training, Path(folder) / "run", options.seconds),
        }
    batch, workers = training.engine.batch_size, training.engine.num_workers
    rows = [[name, f"{rate:.2f}", f"{batch * rate:.1f}"] for name, rate in rates.items()]
    caption = (
        f"Batches of {batch}, {training.engine.precision}, {workers} workers. "
        f"{harness.describe_machine(device)}"
    )
    body = harness.table(["", "steps/s", "samples/s"], rows)
    harness.publish(options.section, f"{body}\n\n{caption}", options.page)


def full_training(folder: Path, device: str, batch: int | None = None) -> Training:
    """Prepare the training of the bundled configuration."""
    overrides = {"device": device, "num_workers": max(1, usable_cores() - 1)}
    engine, stage = read_config("lift", "lift", LiftStageConfig, overrides)
    engine = replace(engine, batch_size=batch or engine.batch_size)
    return with_characters(folder, engine, stage, find_lift().parent)


def with_characters(
    folder: Path, engine: EngineConfig, stage: LiftStageConfig, start: Path
) -> Training:
    """Bake characters into a new folder, and train on all but the first."""
    assets = figure_assets(0, CHARACTERS)
    AssetBatch(folder / "baked", BakeSettings(), workers=1).run(assets)
    engine = replace(
        engine, steps=ENDLESS, held_out=2,
        log_every=ENDLESS, eval_every=ENDLESS, images_every=ENDLESS, checkpoint_every=ENDLESS,
    )  # fmt: skip
    held_out = (assets[0].name,)
    stage = replace(stage, held_out_assets=held_out, frontless_assets=())
    return Training(folder / "baked", engine, stage, start)


def device_rate(training: Training, seconds: float) -> float:
    """Steps per second with one batch, again and again."""
    config, stage = replace(training.engine, num_workers=0), training.new_stage()
    with started_processes(config) as accelerator:
        batch = next(iter(Batches(stage.dataset([training.data], config), config)))
        batch = [
            part._replace(samples=on_device(part.samples, accelerator.device)) for part in batch
        ]
        optimization, meter = Optimization(stage, config, accelerator), Meter()
        while meter.seconds < seconds:
            optimization.step_once(batch)  # reads the loss, so the device has finished
            meter.tick()
    return meter.rate


def training_rate(training: Training, output: Path, seconds: float) -> float:
    """Steps per second of the training loop."""
    meter = Meter()

    def on_step(progress: Progress) -> None:
        meter.tick()

    with suppress(Interrupted):
        train(
            training.new_stage(), training.engine, training.data, output,
            on_step=on_step, should_stop=lambda: meter.seconds >= seconds,
        )  # fmt: skip
    return meter.rate


class Meter:
    """Counts steps per second after the warm-up."""

    def __init__(self) -> None:
        self._steps, self._began = -WARM_UP, time.perf_counter()
        self.seconds = 0.0

    def tick(self) -> None:
        """Count a step."""
        self._steps += 1
        now = time.perf_counter()
        if self._steps <= 0:
            self._began = now
        self.seconds = now - self._began

    @property
    def rate(self) -> float:
        return self._steps / self.seconds


if __name__ == "__main__":
    main()
