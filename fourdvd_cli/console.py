"""What a person sees: messages and progress on stderr, results on stdout, and nothing else there.

rich is imported only when something is shown, so that `--help` stays fast.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES = 10.0
WIDTH_OF_FILES = 200  # a table that is piped somewhere is not cut to a terminal's width
PACKAGES = ("fourdvd_cli", "recon", "generation")

_log = logging.getLogger("fourdvd_cli")


class Report(Protocol):
    """Takes the state of long work: steps done, in all (if known), and what matters about it."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        """Shows the state."""


def configure(quiet: bool, verbose: bool) -> None:
    """Sets how much is said on stderr.

    Args:
        quiet: only warnings and errors.
        verbose: also what the libraries log, and the traceback behind a known failure.
    """
    root = logging.getLogger()
    root.handlers = [_ConsoleHandler()]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    for package in PACKAGES:
        logging.getLogger(package).setLevel(level)


def say(message: str) -> None:
    """A line on stderr, unless `--quiet` was given."""
    _log.info(message)


def show_error(message: str, hint: str | None = None) -> None:
    """What went wrong and what to try next; with `--verbose`, the traceback as well."""
    _log.debug("where it happened:", exc_info=True)
    lines = [f"error: {message}"] + ([f"hint: {hint}"] if hint else [])
    for line in lines:
        _stderr().print(line, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    sys.stdout.flush()  # here, so that a reader that has gone away is met inside the command


def print_lines(lines: Sequence[str]) -> None:
    """Lines of text on stdout."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: a name in the first column, numbers in the others."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column, name in enumerate(header):
        table.add_column(name, justify="right" if column else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else WIDTH_OF_FILES
    Console(markup=False, highlight=False, width=width).print(table)
    sys.stdout.flush()


@contextmanager
def progress(label: str, quiet: bool = False) -> Iterator[Report]:
    """Shows a long work: a bar on a terminal, a line now and then elsewhere.

    Args:
        label: what is done, e.g. "fitting".
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
def _bar(label: str) -> Iterator[Report]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=_stderr(), transient=True) as bar:
        task = bar.add_task(label, total=None, note="")

        def report(done: int, total: int | None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield report


def _lines(label: str) -> Report:
    last = time.monotonic()

    def report(done: int, total: int | None, note: str = "") -> None:
        nonlocal last
        if done == total or time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            _stderr().print(
                f"{label}: {done}{'' if total is None else f'/{total}'} {note}".rstrip(),
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    return report


def _nothing(done: int, total: int | None, note: str = "") -> None:
    """The report of a quiet command."""


class _ConsoleHandler(logging.Handler):
    """Prints log records through rich, which keeps them apart from a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        _stderr().print(self.format(record), markup=False, highlight=False, soft_wrap=True)


@cache
def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)
