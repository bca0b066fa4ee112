"""The training loop of any stage, from samples to published weights.

    data set ─▶ batches ─▶ optimization ─▶ log, images, checkpoints ─▶ weights

A training resumes from the newest checkpoint in its folder, on any number of processes, and gives
exactly the same losses as without an interruption. Those of lift differ a little if the number of
processes changes, see `LiftStage.loss`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic

import torch

from generation.training.batches import Batches, HeldOut
from generation.training.config import EngineConfig
from generation.training.optimization import Optimization, Stage, StepResult
from generation.training.processes import started_processes
from generation.training.run_folder import (
    Checkpoint,
    RunFolder,
    TrainingLog,
    begin_run,
    check_run_folder,
    identity_of,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from generation.training.samples import AnySamples, SampleSet
from recon.errors import Interrupted
from recon.output import output_folder, sole_writer
from recon.progress import Eta, OnStep, Progress, ShouldStop, ignore_progress, never_stop

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class TrainingResult:
    """Result of a finished training.

    Attributes:
        steps: total number of steps.
        seconds: total training time in seconds.
        scores: metrics on the held-out samples, by name.
        replaced: number of damaged samples that were replaced.
        weights: folder of the published weights.
    """

    steps: int
    seconds: float
    scores: dict[str, float]
    replaced: int
    weights: Path


def train(
    stage: Stage[AnySamples],
    config: EngineConfig,
    data: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    overwrite: bool = False,
    on_step: OnStep = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> TrainingResult:
    """Train a stage, or resume its training.

    Args:
        stage: the network with its loss.
        config: configuration of the loop.
        data: one or more folders of the stage's samples, see `Stage.dataset`.
        output: folder of the training, see `run_folder`.
        overwrite: whether to replace an existing folder instead of resuming.
        on_step: called after each step; metrics are "loss", "samples_per_second" and the newest
            metrics of the held-out samples.
        should_stop: called before each step; True makes this step the last one.

    Raises:
        Interrupted: `should_stop` returned True; a checkpoint is saved.
        DivergedError: the loss is not finite; the last checkpoint is kept.
        InputError, ShardError: data, configuration or checkpoint are invalid or do not match.
        OutputError: the folder holds other files, or another training writes to it.
        BackendError: accelerate is not installed.
    """
    folder = RunFolder(Path(output))
    check_run_folder(folder, identity_of(stage, config), overwrite)
    with started_processes(config) as accelerator:
        dataset = stage.dataset([data] if isinstance(data, str | Path) else data, config)
        training = _Training(stage, config, dataset, folder, accelerator)
        with sole_writer(folder.path) if training.is_main else nullcontext():
            accelerator.wait_for_everyone()  # every process has checked the folder
            if training.is_main:
                begin_run(folder, stage, config, dataset.folders, overwrite)
            accelerator.wait_for_everyone()
            training.resume()
            return training.run(on_step, should_stop)


class _Training(Generic[AnySamples]):
    """Training loop of one process. All processes compute; only the main process writes files."""

    def __init__(
        self,
        stage: Stage[AnySamples],
        config: EngineConfig,
        dataset: SampleSet[AnySamples],
        folder: RunFolder,
        accelerator: Accelerator,
    ):
        rank, processes = accelerator.process_index, accelerator.num_processes
        self.stage, self.config, self.folder = stage, config, folder
        self.accelerator, self.is_main = accelerator, accelerator.is_main_process
        self.batches = Batches(dataset, config, rank, processes)
        self.held_out = HeldOut(dataset, config, accelerator.device)
        self.optimization = Optimization(stage, config, accelerator)
        self.identity = identity_of(stage, config)
        self.replaced, self.seconds, self.saved_seconds = 0, 0.0, 0.0
        self.scores: dict[str, float] = {}

    def resume(self) -> None:
        """Continue from the newest checkpoint, if there is one."""
        if not (found := list_checkpoints(self.folder.checkpoints)):
            return
        saved = load_checkpoint(found[-1], self.identity)
        self.optimization.load_state_dict(saved.step, saved.tensors)
        self.batches.load_state_dict(saved.order)
        self.replaced = saved.replaced
        self.seconds = self.saved_seconds = saved.seconds

    def run(self, on_step: OnStep, should_stop: ShouldStop) -> TrainingResult:
        """Make the remaining steps and write the weights."""
        log = TrainingLog(self.folder, self.optimization.step) if self.is_main else None
        with closing(log) if log else nullcontext():
            eta = Eta(self.config.steps - self.optimization.step, self.seconds)
            batches = iter(self.batches)
            while self.optimization.step < self.config.steps:
                control_flags = (should_stop(), self._checkpoint_is_overdue())
                result = self.optimization.step_once(next(batches), control_flags)
                eta.tick()
                self.seconds = eta.seconds
                self.replaced += result.replaced
                self._after_step(result, eta, log)
                on_step(self._progress(result, eta))
        return self._finish()

    def _after_step(self, result: StepResult, eta: Eta, log: TrainingLog | None) -> None:
        # A process that steps alone raises DivergedError at the next average only.
        if self._is_due("log") and log and result.is_finite:
            log.write(self.optimization.step, self._log_values(result, eta))
        if self._is_due("eval"):
            self._evaluate(log)
        if self._is_due("images"):
            self._write_image()
        stop, overdue = result.control_flags
        if stop or overdue or self._is_due("checkpoint"):
            self._save()
        if stop and self.optimization.step < self.config.steps:
            raise Interrupted(f"stopped after step {self.optimization.step}; the state is saved")

    def _is_due(self, what: str) -> bool:
        """Return whether the step is a multiple of `what`_every, or the last one."""
        step = self.optimization.step
        return step == self.config.steps or step % getattr(self.config, f"{what}_every") == 0

    def _checkpoint_is_overdue(self) -> bool:
        """Return whether `checkpoint_seconds` have passed; only the main process's clock counts."""
        waited = self.seconds - self.saved_seconds
        return self.is_main and waited >= self.config.checkpoint_seconds

    def _samples_per_second(self, eta: Eta) -> float:
        return self.config.batch_size / max(eta.seconds_per_step, 1e-9)

    def _log_values(self, result: StepResult, eta: Eta) -> dict[str, float]:
        return {
            **result.losses,
            "learning_rate": result.learning_rate,
            "gradient_norm": result.grad_norm,
            "samples_per_second": self._samples_per_second(eta),
            "seconds": self.seconds,
            "replaced": self.replaced,
        }

    def _progress(self, result: StepResult, eta: Eta) -> Progress:
        metrics = {
            "loss": result.losses["loss"],
            **self.scores,
            "samples_per_second": self._samples_per_second(eta),
        }
        step, steps = self.optimization.step, self.config.steps
        return Progress(self.stage.name, step, steps, eta.seconds_left, metrics)

    def _evaluate(self, log: TrainingLog | None = None) -> None:
        samples, rng = self.held_out.samples, self.held_out.rng()
        self.scores = self.optimization.with_ema(self.stage.evaluate, samples, rng)
        if log:
            log.write(self.optimization.step, self.scores)

    def _write_image(self) -> None:
        samples, rng = self.held_out.samples, self.held_out.rng()
        image = self.optimization.with_ema(self.stage.images, samples, rng)
        if self.is_main:
            self.folder.write_image(self.optimization.step, image)

    def _save(self) -> None:
        checkpoint = Checkpoint(
            self.optimization.step,
            self.optimization.state_dict(),
            self.batches.state_dict(),
            self.identity,
            self.replaced,
            self.seconds,
        )
        if self.is_main:
            save_checkpoint(self.folder.checkpoints, checkpoint)
        self.accelerator.wait_for_everyone()
        self.saved_seconds = self.seconds

    def _finish(self) -> TrainingResult:
        """Write the EMA weights; all processes take part, as a stage may run its network for it."""
        if not self.scores:  # not evaluated in this run, as the training was already finished
            self._evaluate()
        dtype = getattr(torch, self.config.weights_precision)
        output = output_folder(self.folder.weights, overwrite=True)
        weights, samples = self.optimization.ema_weights(), self.held_out.samples
        with output if self.is_main else _temporary_folder() as folder:
            self.optimization.with_ema(self.stage.save, folder, weights, samples, dtype)
        self.accelerator.wait_for_everyone()
        return TrainingResult(
            self.optimization.step, self.seconds, self.scores, self.replaced, self.folder.weights
        )


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
