"""What a pipeline of any model does: from a clip to a grid, in memory or in a folder.

    clip ──prepare──▶ square clip, plan ──make_grid──▶ grid ──▶ folder, report

`prepare`, `find_files`, `estimate_cost` and `work` need no weights, so that a dry run can answer
before any is downloaded. `generation.pipelines` has the table of all models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any, Generic, NamedTuple, Self, TypeVar

import torch

from generation.checkpoint import Checkpoint, check_folder, write_input
from generation.clip.preparing import Clip, SquareClip
from generation.clip.writing import write_clip
from generation.cost import Estimate
from generation.plan import Plan
from generation.report import generation_report
from generation.settings import GenerateSettings
from recon.errors import OutOfMemoryError
from recon.grid import Grid
from recon.grid.writing import write_posed_images, write_previews
from recon.output import output_folder, sole_writer, write_json
from recon.progress import OnStep, ShouldStop, ignore_progress, never_stop
from recon.resume import fingerprint

FINGERPRINT_FIELDS = tuple(sorted(GenerateSettings.__dataclass_fields__.keys() - {"low_memory"}))
P = TypeVar("P", bound=Plan)
Result = TypeVar("Result")


class Generated(NamedTuple):
    """A grid, and the content of its `generate.json`."""

    grid: Grid
    report: dict[str, Any]


class MadeGrid(NamedTuple):
    """A grid, and what the report says about the making of it.

    Attributes:
        grid: the grid; view 0 is the input.
        seconds: time spent on each phase, by name.
        facts: what the model found out about the clip; a JSON object.
    """

    grid: Grid
    seconds: dict[str, float]
    facts: dict[str, Any]


class UsedFile(NamedTuple):
    """A file of weights that a pipeline uses, and its sha256 in hexadecimal digits."""

    path: Path
    sha256: str


@dataclass
class Pipeline(ABC, Generic[P]):
    """A model with its weights, which generates grids of any number of clips.

    Attributes:
        settings: options of the model, the device and the grid. Those of the grid are the defaults
            of `generate`; a call takes its own instead, but for `fov_deg`, `distance` and
            `clockwise`.
    """

    settings: GenerateSettings

    def __call__(
        self,
        clip: Clip | SquareClip,
        *,
        seed: int = 0,
        steps: int | None = None,
        views: int | None = None,
        azimuths_deg: Sequence[float] = (),
        elevation_deg: float | None = None,
        size: int | None = None,
        on_step: OnStep = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> Grid:
        """Generate a grid in memory.

        Args:
            clip: the input; it is cut to the model's size.
            seed: seed of all noise; `lift` has none.
            steps: denoising steps per window; None for the preset's. `lift` has none.
            views: number of generated views, spaced evenly; None for the model's.
            azimuths_deg: azimuths of the generated views relative to the input view, ascending
                within (0, 360); empty for the model's.
            elevation_deg: elevation of the input view; None for the model's.
            size: side of the grid's images in pixels, for diffusion models a multiple of 64; None
                for the model's.
            on_step: called after every step.
            should_stop: called after every step; True stops the generation.

        Returns:
            The grid; view 0 is the input.

        Raises:
            InputError: a number is out of range, or the model has no use for an option.
            WeightsError: the weights do not fit the networks or each other.
            Interrupted: `should_stop` returned True.
            DivergedError: the networks gave values that are not finite.
            OutOfMemoryError: the device has too little memory.

        Example:
            >>> grid = load_pipeline("lift")(clip, seed=0, on_step=print)
            >>> grid.V, grid.T
            (16, 21)
        """
        settings = replace(
            self.settings,
            seed=seed,
            steps=steps,
            views=views,
            azimuths_deg=tuple(azimuths_deg),
            elevation_deg=elevation_deg,
            size=size,
        )
        square, plan = self.prepare(clip, settings)
        with _memory_errors(settings.low_memory, saved=False):
            grid = self.make_grid(square, plan, Checkpoint(), on_step, should_stop).grid
        return _with_source_camera(grid, square)

    def generate(
        self,
        clip: Clip | SquareClip,
        folder: str | Path,
        settings: GenerateSettings | None = None,
        *,
        overwrite: bool = False,
        on_step: OnStep = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> Generated:
        """Generate a grid folder, or resume an interrupted one.

        Args:
            clip: the input; it is cut to the model's size.
            folder: the grid folder; until it is complete it holds checkpoints.
            settings: options of the grid; those of the model and the device must be the pipeline's.
            overwrite: whether a finished folder, or an unfinished one with other settings, may be
                replaced.
            on_step: called after every step.
            should_stop: called after every step; True stops the generation.

        Raises:
            InputError: a number is out of range.
            OutputExistsError: the folder holds anything but this generation, unfinished, and
                `overwrite` is False.
            OutputError: another process writes to the folder, or it cannot be created.
            WeightsError: the weights do not fit the networks or each other.
            Interrupted: `should_stop` returned True; finished parts are saved.
            DivergedError: the networks gave values that are not finite.
            OutOfMemoryError: the device has too little memory; finished parts are saved.
        """
        folder, settings = Path(folder), settings or self.settings
        check_folder(folder, overwrite)
        square, plan = self.prepare(clip, settings)
        checkpoint = Checkpoint(folder, self._identity(square, settings))
        with sole_writer(folder):
            check_folder(folder, overwrite)  # another process may have finished it meanwhile
            if overwrite:
                checkpoint.discard_other()
            write_input(folder, square)
            with _memory_errors(settings.low_memory, saved=True):
                hashing = _in_background(self.used_files)  # while the networks run
                made = self.make_grid(square, plan, checkpoint, on_step, should_stop)
                used = hashing.result()
            grid = _with_source_camera(made.grid, square)
            files = {name: {"file": each.path.name, "sha256": each.sha256} for name, each in used}
            facts = self.facts(plan, settings) | made.facts
            report = generation_report(square, settings, plan, files, facts, made.seconds)
            with output_folder(folder, overwrite=True) as partial:  # replaces the unfinished state
                write_posed_images(grid, partial)
                write_previews(grid, partial)
                (partial / "input").mkdir()
                write_clip(square, partial / "input")
                write_json(partial / "generate.json", report)
        return Generated(grid, report)

    # -- what each kind of model implements

    @classmethod
    @abstractmethod
    def open(
        cls, settings: GenerateSettings, weights_folder: Path | None, keep_networks: bool
    ) -> Self:
        """Find and open the weights.

        Args:
            settings: the options; their device is resolved.
            weights_folder: folder to search for weights first.
            keep_networks: whether networks stay in memory for the next grid.

        Raises:
            WeightsError: weights are missing, damaged or belong to another model.
        """

    @staticmethod
    @abstractmethod
    def prepare(clip: Clip | SquareClip, settings: GenerateSettings) -> tuple[SquareClip, P]:
        """Cut a clip to the size of the grid, and resolve the options for it.

        Raises:
            InputError: a number is out of range, the clip is too short, or a `SquareClip` has
                another size.
        """

    @staticmethod
    @abstractmethod
    def find_files(plan: P, weights_folder: Path | None = None) -> dict[str, Path | None]:
        """Find all weights files of a plan by name; None for those that are missing."""

    @staticmethod
    @abstractmethod
    def estimate_cost(
        plan: P,
        settings: GenerateSettings,
        size: int,
        frames: int,
        rate_flops: float,
        weights_folder: Path | None = None,
    ) -> Estimate:
        """Estimate memory, disk and time in a second, without the weights of published models.

        Args:
            plan: the plan.
            settings: the options; their device is resolved.
            size: side of the clip's images in pixels.
            frames: number of frames of the clip.
            rate_flops: floating-point operations per second, see `cost.measured_rate`.
            weights_folder: folder to search for weights first.
        """

    @staticmethod
    @abstractmethod
    def facts(plan: P, settings: GenerateSettings) -> dict[str, Any]:
        """Return what `generate.json` says about a plan beside its cameras; a JSON object."""

    @staticmethod
    @abstractmethod
    def work(plan: P, size: int) -> dict[str, Any]:
        """Return what a dry run says about the work to be done; a JSON object."""

    @abstractmethod
    def estimate(self, clip: Clip | SquareClip) -> Estimate:
        """Estimate memory, disk and time of the grid of a clip, in a second."""

    @abstractmethod
    def make_grid(
        self,
        clip: SquareClip,
        plan: P,
        checkpoint: Checkpoint,
        on_step: OnStep = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> MadeGrid:
        """Run the networks."""

    @abstractmethod
    def used_files(self) -> list[tuple[str, UsedFile]]:
        """Return all weights files by name; published ones take as long as reading them."""

    @abstractmethod
    def weights_identity(self) -> Mapping[str, Mapping[str, int | str]]:
        """Return what a result must match to belong to these weights, in a second.

        Returns:
            Groups of weights by name; of each the size of a published file, or else the sha256.
        """

    def _identity(self, clip: SquareClip, settings: GenerateSettings) -> dict[str, Any]:
        """Return the values that the checkpoints of an unfinished generation must match."""
        values = asdict(settings)
        return {
            "settings": {name: values[name] for name in FINGERPRINT_FIELDS},
            "clip": fingerprint(clip.images),
            **self.weights_identity(),
        }


def _in_background(work: Callable[[], Result]) -> Future[Result]:
    """Start work in a thread that no error waits for, nor the end of the program.

    A thread of an executor would be waited for: hashing large weights takes a minute.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def _with_source_camera(grid: Grid, clip: SquareClip) -> Grid:
    """Note where the input view is in the video that it was cut from."""
    return replace(grid, source_camera=clip.source_camera(grid.cameras[0]))


@contextmanager
def _memory_errors(low_memory: bool, saved: bool) -> Iterator[None]:
    """Translate torch's out-of-memory error to OutOfMemoryError, with a hint."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = "a smaller size" if low_memory else "low memory (--low-memory) or a smaller size"
        resumed = "; a run with low memory resumes after the saved windows" if saved else ""
        raise OutOfMemoryError(
            "the device has too little memory" + (", finished windows are saved" if saved else ""),
            hint=f"try {smaller}{resumed}",
        ) from error
