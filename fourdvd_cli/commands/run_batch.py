"""`fourdvd run` with several inputs: a run for each, in parallel, resumable, with a manifest.

OUT/NAME/            the run of an input, see `run_chain`
OUT/manifest.jsonl   a row for each finished, rejected or failed input

An input that is not valid, or whose run fails, does not stop the others. A run that loses its
worker or its machine is continued by another worker, after its last finished step or from the last
checkpoint of its fit.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from fourdvd_cli import console
from fourdvd_cli.commands.run_chain import ChainSettings, check_run, run_chain, scene_metrics
from fourdvd_cli.commands.run_input import RECORD, input_stamp
from fourdvd_cli.commands.run_manifest import (
    MANIFEST,
    ClipRow,
    ClipStatus,
    append_row,
    is_final,
    read_rows,
)
from fourdvd_cli.errors import failure_of
from fourdvd_cli.options import check_inputs
from generation.clip.reading import is_clip
from generation.curation.assets.files import unique_names
from generation.curation.jobs import Resources, make_executor, report
from generation.pipeline import Pipeline
from generation.pipelines import open_pipeline
from generation.settings import GenerateSettings
from recon.devices import usable_cores
from recon.errors import FourdvdError, InputError, OutputError
from recon.output import check_output, sole_writer
from recon.progress import Progress

NOT_VALID = 3  # exit code of inputs that are not valid
WAIT_SECONDS = 60.0  # for a worker that was lost, but still writes


@dataclass(frozen=True)
class BatchResult:
    """Result of a batch.

    Attributes:
        folder: folder of the batch.
        rows: manifest row of each input, in the order of the inputs.
        from_before: number of inputs that an earlier batch had finished or rejected.
    """

    folder: Path
    rows: Sequence[ClipRow]
    from_before: int

    @property
    def counts(self) -> dict[ClipStatus, int]:
        """Number of inputs by status."""
        counts = Counter(row.status for row in self.rows)
        return {status: counts[status] for status in ClipStatus}

    @property
    def warnings(self) -> dict[str, int]:
        """Number of warnings of each input that has some, by its name."""
        return {row.name: len(row.warnings) for row in self.rows if row.warnings}

    @property
    def refused(self) -> list[ClipRow]:
        """Rows of the inputs that were rejected or failed."""
        return [row for row in self.rows if row.status is not ClipStatus.FINISHED]

    def to_json(self) -> dict[str, Any]:
        """Return counts and rows as JSON; rows have the metrics of their scene, too."""
        return {
            "folder": str(self.folder),
            **{str(status): count for status, count in self.counts.items()},
            "from_before": self.from_before,
            "inputs": [_row_json(row, self.folder / row.name) for row in self.rows],
        }

    def require_finished(self) -> None:
        """Raise an error if no input was finished.

        Raises:
            InputError: all inputs were rejected.
            FourdvdError: some failed for another reason.
        """
        if self.counts[ClipStatus.FINISHED]:
            return
        message = f"no input was finished: {console.counted(self.counts)}"
        raise FourdvdError(message) if self.counts[ClipStatus.FAILED] else InputError(message)


def _row_json(row: ClipRow, folder: Path) -> dict[str, Any]:
    """Return a row without what serves to notice changes, and with the metrics of its scene."""
    bookkeeping = ("settings", "input_stamp")
    facts = {name: value for name, value in asdict(row).items() if name not in bookkeeping}
    if row.status is not ClipStatus.FINISHED:
        return facts
    scene = scene_metrics(folder)
    split = "test" if "test" in scene else "train"
    means = {name: scene[split][name] for name in ("psnr", "ssim", "iou")}
    return facts | {"gaussians": scene["gaussians"], "split": split, **means}


class InputResult(NamedTuple):
    """Result of one input, as soon as it is known.

    Attributes:
        row: its row in the manifest.
        number: how many of the inputs have a result, this one included.
        total: number of inputs.
        warnings: what this run found doubtful; the row also has the warnings of earlier runs.
        from_before: whether an earlier batch had finished or rejected it.
    """

    row: ClipRow
    number: int
    total: int
    warnings: Sequence[str] = ()
    from_before: bool = False


OnResult = Callable[[InputResult], None]
OnProgress = Callable[[str, str, Progress], None]
"""Called with the name of a running input, what it does, e.g. "fitting", and its progress."""


def _ignore(*arguments: object) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class RunBatch:
    """A batch of runs.

    Attributes:
        folder: output folder for the manifest and a folder of each input.
        settings: settings of all runs; their generation applies to the inputs that are clips.
        workers: number of runs at the same time; None for one per core, or per `threads` cores, and
            one on a GPU. A Ray cluster uses all of its machines.
        threads: cores per run; None for the cores divided by the workers, or 1 with Ray.
        ray: address of a Ray cluster; None for processes on this machine.
        overwrite: whether to start finished and unfinished runs again.
    """

    folder: Path
    settings: ChainSettings
    workers: int | None = None
    threads: int | None = None
    ray: str | None = None
    overwrite: bool = False

    def run(
        self,
        sources: Sequence[Path],
        on_result: OnResult = _ignore,
        on_progress: OnProgress | None = None,
    ) -> BatchResult:
        """Run the inputs that are not finished yet.

        Args:
            sources: videos, GIFs, images, folders of frames, or grids.
            on_result: called with the result of each input, first with those of earlier batches.
            on_progress: called while inputs run; None: what they do is not reported.

        Raises:
            OutputExistsError: the folder of an input contains anything else.
            OutputError: the folder is that of a run of a single input, or another batch writes to
                it.
            InputError: the folder cannot be used, and an input is missing as well.
            BackendError: the Ray cluster cannot be used.
            OSError: the manifest cannot be written.
        """
        with sole_writer(self.folder):
            tasks = self._tasks(sources)
            known = {} if self.overwrite else read_rows(self.folder / MANIFEST)
            rows = self._finished(tasks, known)
            waiting = [task for task in tasks if task.name not in rows]
            before = len(rows)
            if self.settings.why_model and any(task.settings.generation for task in waiting):
                console.say(self.settings.why_model)
            for number, row in enumerate(rows.values(), 1):
                on_result(InputResult(row, number, len(tasks), from_before=True))
            with closing(self._process(waiting, on_progress)) as results:
                for result in results:
                    row = _continued(result, known.get(result.name))
                    append_row(self.folder / MANIFEST, row)
                    rows[row.name] = row
                    on_result(InputResult(row, len(rows), len(tasks), result.warnings))
        return BatchResult(self.folder, [rows[task.name] for task in tasks], before)

    def _tasks(self, sources: Sequence[Path]) -> list[ClipTask]:
        names = unique_names(list(dict.fromkeys(source.resolve() for source in sources)))
        return [
            ClipTask(name, source, (self.folder / name).absolute(), self._for_input(source),
                     self.overwrite)
            for source, name in names.items()
        ]  # fmt: skip

    def _for_input(self, source: Path) -> ChainSettings:
        if is_clip(source):
            return self.settings
        return replace(self.settings, generation=None, weights=None)

    def _finished(
        self, tasks: Sequence[ClipTask], known: Mapping[str, ClipRow]
    ) -> dict[str, ClipRow]:
        """Return the rows of finished inputs; check that the folders of the others are free."""
        rows = ((task, known.get(task.name)) for task in tasks)
        done = {task.name: row for task, row in rows if row is not None and _is_done(row, task)}
        others = [task for task in tasks if task.name not in done]
        try:
            self._check_folders(others, is_new=not known)
        except OutputError:
            check_inputs(*(task.source for task in others if not _is_begun_or_there(task)))
            raise
        return done

    def _check_folders(self, tasks: Sequence[ClipTask], is_new: bool) -> None:
        begun = self.folder.is_dir() and any(self.folder.glob(f"*/{RECORD}"))
        if is_new and not begun:  # neither rows, nor runs whose rows a crash prevented
            if (self.folder / RECORD).is_file():
                raise OutputError(
                    f"{self.folder} has the run of a single input; several inputs, or one with "
                    "--workers, --threads or --ray, need another folder"
                )
            check_output(self.folder, self.overwrite)
        if not self.overwrite:
            for task in tasks:
                check_run(task.source, task.folder, task.settings, overwrite=False)

    def _process(
        self, tasks: Sequence[ClipTask], on_progress: OnProgress | None
    ) -> Generator[ClipRow, None, None]:
        gone = [task for task in tasks if not _is_begun_or_there(task)]
        yield from map(run_clip, gone)  # rejected at once, not when a worker comes to them
        tasks = [task for task in tasks if task not in gone]
        if not tasks:
            return
        executor = make_executor(
            self.ray,
            self._pool_size(len(tasks)),
            Resources(self.threads or 1, self._gpus),
            None
            if on_progress is None
            else lambda index, shown: on_progress(tasks[index].name, *shown),
        )
        with closing(executor.run(run_clip, tasks)) as results:
            for completed in results:
                row = completed.value or replace(
                    new_row(tasks[completed.index]), reason=completed.failure
                )
                yield replace(row, attempts=completed.attempts)

    def _pool_size(self, tasks: int) -> int:
        if self.workers is not None:
            return self.workers
        return 1 if self._gpus else max(1, min(tasks, usable_cores() // (self.threads or 1)))

    @property
    def _gpus(self) -> float:
        generation = self.settings.generation
        devices = self.settings.fit["device"], generation and generation.device
        return 1.0 if "cuda" in devices else 0.0


# -- one input, in a worker


@dataclass(frozen=True)
class ClipTask:
    """A run of one input.

    Attributes:
        name: name of its folder.
        source: absolute path of the input.
        folder: absolute path of its folder.
        settings: settings of the run.
        overwrite: whether to start an earlier run again.
    """

    name: str
    source: Path
    folder: Path
    settings: ChainSettings
    overwrite: bool = False

    @property
    def settings_json(self) -> dict[str, Any]:
        """The settings that determine the result, and the identity of the weights."""
        settings = self.settings
        generation = None if settings.generation is None else asdict(settings.generation)
        return {
            "formats": settings.formats, "fit": settings.fit, "generation": generation,
            "weights": settings.weights, **settings.reading,
        }  # fmt: skip


def run_clip(task: ClipTask) -> ClipRow:
    """Run one input; its row says whether that is finished, rejected or failed."""
    began = time.monotonic()
    row = replace(new_row(task), machine=socket.gethostname())
    forward = console.forwarding(lambda label, step: report((label, step)))
    with _warnings() as warnings, forward:
        try:
            run = run_chain(
                task.source, task.folder, task.settings, overwrite=task.overwrite, quiet=True,
                open_networks=_open_networks, wait_s=WAIT_SECONDS, one_of_several=True,
            )  # fmt: skip
            row = replace(row, status=ClipStatus.FINISHED, steps=run.seconds)
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise  # a bug: the executor reports its place
            status = ClipStatus.REJECTED if failure.exit_code == NOT_VALID else ClipStatus.FAILED
            reason = failure.message.removeprefix(f"{task.source}: ")  # the row names it already
            row = replace(row, status=status, reason=reason)
    seconds = round(time.monotonic() - began, 3)
    return replace(row, seconds=seconds, warnings=tuple(warnings))


def _is_begun_or_there(task: ClipTask) -> bool:
    """Return whether there is the input, or a run that may go on without it."""
    return task.source.exists() or (task.folder / RECORD).is_file()


def _is_done(row: ClipRow, task: ClipTask) -> bool:
    stamp = input_stamp(task.source, task.folder)
    same = is_final(row, task.source, stamp, task.settings_json)
    return same and (row.status is ClipStatus.REJECTED or task.folder.is_dir())


def _continued(row: ClipRow, earlier: ClipRow | None) -> ClipRow:
    """Add the warnings of an earlier run of the same input, whose finished steps were kept."""
    if earlier is None or earlier.input != row.input:
        return row
    return replace(row, warnings=tuple(dict.fromkeys((*earlier.warnings, *row.warnings))))


def new_row(task: ClipTask) -> ClipRow:
    """Return the row of an input before its run, with the status failed."""
    return ClipRow(
        task.name,
        ClipStatus.FAILED,
        str(task.source),
        settings=task.settings_json,
        input_stamp=input_stamp(task.source, task.folder),
    )


@lru_cache(maxsize=1)
def _open_networks(settings: GenerateSettings, weights_folder: Path | None) -> Pipeline[Any]:
    """Open a pipeline whose networks stay in memory for the next input of this worker."""
    return open_pipeline(settings, weights_folder)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect the log's warnings, which would otherwise be printed beside a progress bar."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    root = logging.getLogger()
    before = root.handlers
    root.handlers = [Collect(logging.WARNING)]
    try:
        yield found
    finally:
        root.handlers = before
