"""The `fourdvd` command: its sub-commands, and the only place where exceptions are caught."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fourdvd_cli import __version__, console, interrupts
from fourdvd_cli.commands.data import data
from fourdvd_cli.commands.doctor import doctor
from fourdvd_cli.commands.evaluate import evaluate
from fourdvd_cli.commands.export import export
from fourdvd_cli.commands.generate import generate
from fourdvd_cli.commands.grid import grid
from fourdvd_cli.commands.models import models
from fourdvd_cli.commands.reconstruct import reconstruct
from fourdvd_cli.commands.render import render
from fourdvd_cli.commands.run import run
from fourdvd_cli.commands.train import train
from fourdvd_cli.errors import failure_of

app = typer.Typer(
    name="fourdvd",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # help through rich takes twice the time
    pretty_exceptions_enable=False,  # an unknown exception keeps Python's own traceback
)
for command in (run, generate, grid, reconstruct, export, render, evaluate, doctor):
    app.command()(command)
app.add_typer(models)
app.add_typer(data)
app.add_typer(train)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fourdvd {__version__}")
        raise typer.Exit


@app.callback()
def fourdvd(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """One monocular video of a moving object in, a 4D asset out.

    Results go to the folder named by -o, progress to stderr.

    Exit codes: 0 done, 1 failure, 2 usage, 3 input not valid, 4 weights missing, 5 device not
    available, 6 out of GPU memory, 130 interrupted (state saved).
    """


def main() -> None:
    """Runs the command line of this process and leaves it with the exit code."""
    interrupts.install()
    try:
        app(prog_name="fourdvd")  # leaves by SystemExit, usage errors and --help included
    except SystemExit as ending:  # typer turns KeyboardInterrupt into this exit code
        if ending.code == interrupts.EXIT_CODE:
            console.show_error("interrupted; nothing is left half-written")
        raise
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        console.show_error(failure.message, failure.hint)
        sys.exit(failure.exit_code)
