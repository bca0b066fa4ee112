"""The training of one stage, from shards to weights: what happens when.

    shards ─▶ batches ─▶ optimisation ─▶ log, pictures, checkpoints ─▶ weights

It goes on from the newest checkpoint in its folder, with the losses of a training that was never
stopped, on any number of processes. What it does not know: what is trained (`stage`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from generation.training.batches import Batches
from generation.training.checkpoints import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from generation.training.dataset import GridDataset
from generation.training.held_out import HeldOut
from generation.training.logbook import Logbook
from generation.training.optimisation import Optimisation, Outcome
from generation.training.processes import started_processes
from generation.training.run_folder import RunFolder, begin_run, check_run_folder, identity_of
from generation.training.settings import EngineSettings
from generation.training.stage import Stage
from recon.errors import Interrupted
from recon.output import output_folder

if TYPE_CHECKING:
    from accelerate import Accelerator


class Progress(NamedTuple):
    """Where a training is.

    Attributes:
        step: steps made.
        steps: in all.
        loss: of this one.
        samples_per_second: since the training began or went on.
        seconds_left: at this rate.
        scores: the newest ones of the held-out samples, by name.
    """

    step: int
    steps: int
    loss: float
    samples_per_second: float
    seconds_left: float
    scores: dict[str, float]


@dataclass(frozen=True)
class Trained:
    """What a finished training has come to.

    Attributes:
        steps: made in all.
        seconds: of training in all.
        scores: of the held-out samples, by name.
        replaced: damaged samples that were passed over.
        weights: folder of the result.
    """

    steps: int
    seconds: float
    scores: dict[str, float]
    replaced: int
    weights: Path


OnStep = Callable[[Progress], None]


def train(
    stage: Stage,
    settings: EngineSettings,
    shards: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    overwrite: bool = False,
    on_step: OnStep | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Trained:
    """Trains a stage, or goes on with it.

    Args:
        stage: what is trained.
        settings: how.
        shards: folder that `fourdvd data pack` has made, or several, see `GridDataset`.
        output: folder of the training, see `run_folder`.
        overwrite: whether to start again where there is something already.
        on_step: called after each step.
        should_stop: asked before each step; when it says so, this step is the last one.

    Returns:
        What came of it; the weights are in its folder.

    Raises:
        Interrupted: it was told to stop; there is a checkpoint.
        DivergedError: the loss is not finite; the last checkpoint is as it was.
        InputError: shards, settings or a checkpoint do not fit; ShardError if they are damaged.
        OutputError: something else is in the folder.
        BackendError: accelerate is missing.
    """
    folder = RunFolder(Path(output))
    check_run_folder(folder, identity_of(stage, settings), overwrite)
    with started_processes(settings) as accelerator:
        dataset = GridDataset(shards, stage.selection, settings.seed, settings.on_error)
        training = _Training(stage, settings, dataset, folder, accelerator)
        accelerator.wait_for_everyone()  # all have looked into the folder
        if training.is_main:
            begin_run(folder, stage, settings, dataset.folders, overwrite)
        accelerator.wait_for_everyone()
        training.go_on()
        return training.run(on_step or _ignore, should_stop or _never)


class _Training:
    """A training on one process. Only the main one writes, but all do what involves tensors."""

    def __init__(
        self,
        stage: Stage,
        settings: EngineSettings,
        dataset: GridDataset,
        folder: RunFolder,
        accelerator: Accelerator,
    ):
        rank, processes = accelerator.process_index, accelerator.num_processes
        self.stage, self.settings, self.folder = stage, settings, folder
        self.accelerator, self.is_main = accelerator, accelerator.is_main_process
        self.batches = Batches(dataset, settings, rank, processes)
        self.held_out = HeldOut(dataset, settings, accelerator.device)
        self.optimisation = Optimisation(stage, settings, accelerator)
        self.identity = identity_of(stage, settings)
        self.replaced, self.seconds, self.saved_seconds = 0, 0.0, 0.0
        self.scores: dict[str, float] = {}

    def go_on(self) -> None:
        """From the newest checkpoint, if there is one."""
        if not (found := list_checkpoints(self.folder.checkpoints)):
            return
        saved = load_checkpoint(found[-1], self.identity)
        self.optimisation.load(saved.step, saved.tensors)
        self.batches.load_state_dict(saved.order)
        self.replaced = saved.replaced
        self.seconds = self.saved_seconds = saved.seconds

    def run(self, on_step: OnStep, should_stop: Callable[[], bool]) -> Trained:
        """All steps that are left, and the result."""
        logbook = Logbook(self.folder.path, self.optimisation.step) if self.is_main else None
        with closing(logbook) if logbook else nullcontext():
            begun, first, before = time.monotonic(), self.optimisation.step, self.seconds
            batches = iter(self.batches)
            while self.optimisation.step < self.settings.steps:
                wishes = (should_stop(), self._clock_wants_checkpoint())
                outcome = self.optimisation.advance(next(batches), wishes)
                self.seconds = before + time.monotonic() - begun
                self.replaced += outcome.replaced
                rate = (self.optimisation.step - first) / (self.seconds - before)
                self._after_step(outcome, rate, logbook)
                on_step(self._progress(outcome, rate))
        return self._finish()

    def _after_step(self, outcome: Outcome, rate: float, logbook: Logbook | None) -> None:
        if self._is_time_for("log") and logbook:
            logbook.tell(self.optimisation.step, self._facts(outcome, rate))
        if self._is_time_for("score"):
            self._score(logbook)
        if self._is_time_for("pictures"):
            self._draw()
        stop, clock = outcome.wishes
        if stop or clock or self._is_time_for("checkpoint"):
            self._save()
        if stop and self.optimisation.step < self.settings.steps:
            raise Interrupted(
                f"stopped after step {self.optimisation.step}; the same command goes on from there"
            )

    def _is_time_for(self, what: str) -> bool:
        """Now and then, as the settings say, and after the last step."""
        step = self.optimisation.step
        return step == self.settings.steps or step % getattr(self.settings, f"{what}_every") == 0

    def _clock_wants_checkpoint(self) -> bool:
        """Of the main process: clocks differ, and checkpoints are made together."""
        waited = self.seconds - self.saved_seconds
        return self.is_main and waited >= self.settings.checkpoint_seconds

    def _facts(self, outcome: Outcome, rate: float) -> dict[str, float]:
        return {
            **outcome.losses,
            "learning_rate": outcome.learning_rate,
            "gradient_norm": outcome.gradient_norm,
            "samples_per_second": rate * self.settings.batch,
            "seconds": self.seconds,
            "replaced": self.replaced,
        }

    def _progress(self, outcome: Outcome, rate: float) -> Progress:
        step, steps = self.optimisation.step, self.settings.steps
        speed, left = rate * self.settings.batch, (steps - step) / rate
        return Progress(step, steps, outcome.losses["loss"], speed, left, self.scores)

    def _score(self, logbook: Logbook | None = None) -> None:
        held_out = self.held_out
        self.scores = self.optimisation.evaluate(
            self.stage.score, held_out.samples, held_out.draws()
        )
        if logbook:
            logbook.tell(self.optimisation.step, self.scores)

    def _draw(self) -> None:
        held_out = self.held_out
        picture = self.optimisation.evaluate(
            self.stage.pictures, held_out.samples, held_out.draws()
        )
        if self.is_main:
            self.folder.write_picture(self.optimisation.step, picture)

    def _save(self) -> None:
        checkpoint = Checkpoint(
            self.optimisation.step,
            self.optimisation.tensors(),
            self.batches.state_dict(),
            self.identity,
            self.replaced,
            self.seconds,
        )
        if self.is_main:
            save_checkpoint(self.folder.checkpoints, checkpoint)
        self.accelerator.wait_for_everyone()
        self.saved_seconds = self.seconds

    def _finish(self) -> Trained:
        """Writes the averaged weights; a stage may run its network for that, on all processes."""
        if not self.scores:  # nothing was left to do
            self._score()
        dtype = getattr(torch, self.settings.weights_precision)
        place = output_folder(self.folder.weights, overwrite=True)
        weights, samples = self.optimisation.averaged_weights(), self.held_out.samples
        with place if self.is_main else _no_place() as folder:
            self.optimisation.evaluate(self.stage.save, folder, weights, samples, dtype)
        self.accelerator.wait_for_everyone()
        return Trained(
            self.optimisation.step, self.seconds, self.scores, self.replaced, self.folder.weights
        )


@contextmanager
def _no_place() -> Iterator[Path]:
    """A folder that vanishes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _ignore(progress: Progress) -> None:
    """Nobody looks on."""


def _never() -> bool:
    return False
