"""Output of the commands: messages and progress on stderr, only results on stdout.

rich is imported on first use, so that commands start fast.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from recon.progress import OnStep, Progress

SECONDS_BETWEEN_LINES = 10.0
WIDTH_WITHOUT_TERMINAL = 200  # characters, so that a table in a pipe is not cut
REASONS_SHOWN = 20
SECONDS_BETWEEN_FORWARDS = 0.2  # of the progress of a worker
PACKAGES = ("fourdvd_cli", "recon", "generation")

_log = logging.getLogger("fourdvd_cli")


class Report(Protocol):
    """Function that shows progress: steps done, their total (None if unknown), and a note."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        """Show the progress."""


def configure(quiet: bool, verbose: bool) -> None:
    """Configure the logging to stderr.

    Args:
        quiet: show only warnings and errors.
        verbose: also show debug messages of the libraries and the tracebacks of known errors.
    """
    root = logging.getLogger()
    root.handlers = [_ConsoleHandler()]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    for package in PACKAGES:
        logging.getLogger(package).setLevel(level)


def say(message: str) -> None:
    """Print a line on stderr, unless `--quiet` was given."""
    _log.info(message)


def warn(message: str) -> None:
    """Print a warning on stderr, also with `--quiet`."""
    _log.warning(message)


def show_refused(status: str, name: str, reason: str | None) -> None:
    """Print on stderr, also with `--quiet`, why a part of a batch was rejected or has failed."""
    _log.error("%s: %s: %s", status, name, reason)


def show_reasons(refused: Iterable[tuple[str, str, str | None]]) -> None:
    """Print status, name and reason of the first parts of a batch that were refused."""
    for each in islice(refused, REASONS_SHOWN):
        show_refused(*each)


def numbered(count: int, noun: str) -> str:
    """Return a number with its noun: "1 frame", "21 frames"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def counted(counts: Mapping[Any, float], from_before: int = 0) -> str:
    """Format counts by status; those that are 0 are left out.

    Args:
        counts: number of parts of a batch by status.
        from_before: how many of all parts an earlier command had done.
    """
    text = ", ".join(f"{count:.0f} {status}" for status, count in counts.items() if count)
    return f"{text} ({from_before} by an earlier command)" if from_before else text


def show_error(message: str, hint: str | None = None) -> None:
    """Print an error and its hint on stderr; with `--verbose`, the traceback as well."""
    _log.debug("traceback:", exc_info=True)
    show_lines(f"error: {message}", *([f"hint: {hint}"] if hint else []))


def show_lines(*lines: str) -> None:
    """Print lines on stderr as they are, also with `--quiet`."""
    for line in lines:
        _stderr().print(line, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout, with a line for each row of a list of objects."""
    sys.stdout.write(_json_text(value, "") + "\n")
    sys.stdout.flush()  # a closed pipe raises here, inside the command


def _json_text(value: Any, indent: str) -> str:
    """Format JSON for reading: an object of a list, such as the metrics of an image, on a line."""
    items = _items(value)
    if not items or (indent and not any(map(_is_nested, items))):
        return json.dumps(value, ensure_ascii=False)
    inner = indent + " "
    texts = [
        json.dumps(item, ensure_ascii=False)
        if isinstance(value, list) and _is_row(item)
        else _json_text(item, inner)
        for item in items
    ]
    if isinstance(value, dict):
        names = (json.dumps(str(name), ensure_ascii=False) for name in value)
        texts = [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f",\n{inner}".join((first + "\n" + inner + texts[0], *texts[1:])) + f"\n{indent}{last}"


def _is_row(value: Any) -> bool:
    """Return whether an object fits a line: what it has inside has no lists or objects inside."""
    return isinstance(value, dict) and not any(
        _is_nested(inner) for item in value.values() for inner in _items(item)
    )


def _items(value: Any) -> list[Any]:
    return list(value.values() if isinstance(value, dict) else value if _is_nested(value) else ())


def _is_nested(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple))


def print_lines(lines: Sequence[str]) -> None:
    """Print lines of text on stdout."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout, with names in its first column and numbers in the others."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column, name in enumerate(header):
        table.add_column(name, justify="right" if column else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    Console(markup=False, highlight=False, width=width).print(table)
    sys.stdout.flush()


@contextmanager
def progress(label: str, quiet: bool = False) -> Iterator[Report]:
    """Show progress: a bar on a terminal, else a line every ten seconds.

    Args:
        label: name of the task, e.g. "fitting".
        quiet: show nothing.

    Yields:
        The function to call after each step.
    """
    if quiet:
        yield _nothing
    elif _stderr().is_terminal:
        with _bar(label) as report:
            yield report
    else:
        yield _lines(label)


@contextmanager
def steps(label: str, quiet: bool = False) -> Iterator[OnStep]:
    """Show the progress of a library call, like `progress`.

    Yields:
        The `on_step` callback for the library.
    """
    if _forward is not None:
        yield _rarely(label, _forward)
        return
    with progress(label, quiet) as report:
        yield lambda step: report(step.step, step.steps, _note(step))


Forward = Callable[[str, "Progress"], None]
"""Called with the label of a task, e.g. "fitting", and its progress."""

_forward: Forward | None = None


@contextmanager
def forwarding(forward: Forward) -> Iterator[None]:
    """In the block, which runs in a worker, give the progress of `steps` to a function instead."""
    global _forward
    before, _forward = _forward, forward
    try:
        yield
    finally:
        _forward = before


def _rarely(label: str, forward: Forward) -> OnStep:
    last = -SECONDS_BETWEEN_FORWARDS

    def on_step(step: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_FORWARDS:
            last = time.monotonic()
            forward(label, step)

    return on_step


class Parts:
    """Progress of a batch on a terminal: a bar for the whole, and one for each running part.

    Args:
        bar: rich's progress display; None to show nothing.
        label: name of the parts, e.g. "inputs".
    """

    def __init__(self, bar: RichProgress | None, label: str):
        self._bar = bar
        self._running: dict[str, TaskID] = {}
        self._whole = None if bar is None else bar.add_task(label, total=None, note="")

    @property
    def is_shown(self) -> bool:
        """Whether there is anything to see."""
        return self._bar is not None

    def count(self, done: int, total: int, note: str = "") -> None:
        """Show how many parts are done."""
        if self._bar is not None and self._whole is not None:
            self._bar.update(self._whole, completed=done, total=total, note=note)

    def show(self, name: str, label: str, step: Progress) -> None:
        """Show what a running part does, see `steps`."""
        if self._bar is None:
            return
        if name not in self._running:
            self._running[name] = self._bar.add_task(name, total=None, note="")
        task = self._running[name]
        self._bar.tasks[self._bar.task_ids.index(task)].total = step.steps
        self._bar.update(task, completed=step.step, note=f"{label} · {_note(step)}")

    def end(self, name: str) -> None:
        """Remove the bar of a part that has ended."""
        if self._bar is not None and name in self._running:
            self._bar.remove_task(self._running.pop(name))


@contextmanager
def parts(label: str, quiet: bool = False) -> Iterator[Parts]:
    """Show the progress of a batch on a terminal; elsewhere its lines are all there is to see."""
    if quiet or not _stderr().is_terminal:
        yield Parts(None, label)
        return
    with _rich_progress() as bar:
        yield Parts(bar, label)


def _note(step: Progress) -> str:
    """Format phase, metrics and time left: "static · 31.2 dB · 9800 gaussians · 3:20 left"."""
    parts = [step.phase]
    for name, value in step.metrics.items():
        if name == "psnr":
            parts.append(f"{value:.1f} dB")
        elif float(value).is_integer():
            parts.append(f"{value:.0f} {name}")
        else:
            parts.append(f"{name} {value:.4g}")
    if step.seconds_left and round(step.seconds_left):  # not 0:00
        minutes, seconds = divmod(round(step.seconds_left), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02d}:" if hours else f"{minutes}:"
        parts.append(f"{clock}{seconds:02d} left")
    return " · ".join(part for part in parts if part)


def _rich_progress() -> RichProgress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=_stderr(), transient=True)


@contextmanager
def _bar(label: str) -> Iterator[Report]:
    with _rich_progress() as bar:
        task = bar.add_task(label, total=None, note="")

        def report(done: int, total: int | None, note: str = "") -> None:
            bar.tasks[0].total = total  # `update` would keep the last total instead of none
            bar.update(task, completed=done, note=note)

        yield report


def _lines(label: str) -> Report:
    last = time.monotonic()

    def report(done: int, total: int | None, note: str = "") -> None:
        nonlocal last
        if done == total or time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            count = f"{done}/{total} " if total is not None else f"{done} " if done else ""
            _stderr().print(
                f"{label}: {count}{note}".rstrip(),
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    return report


def _nothing(done: int, total: int | None, note: str = "") -> None:
    """Show nothing."""


class _ConsoleHandler(logging.Handler):
    """Prints log records through rich, so that they appear above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = "warning: " if record.levelno == logging.WARNING else ""
        text = kind + self.format(record)
        _stderr().print(text, markup=False, highlight=False, soft_wrap=True)


@cache
def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)
