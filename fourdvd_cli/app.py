"""The `fourdvd` command: its subcommands, and the only place where exceptions become exit codes."""

from __future__ import annotations

import io
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
from fourdvd_cli.commands.view import view
from fourdvd_cli.errors import EXIT_CODES, failure_of, resume_line
from fourdvd_cli.help import ASSETS, LOOKING, MACHINE, MODELS, Command, Group
from fourdvd_cli.options import renamed

app = typer.Typer(
    name="fourdvd",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # fourdvd_cli.help draws the help
    pretty_exceptions_enable=False,  # an unknown exception keeps Python's own traceback
    context_settings=renamed(),
    epilog="Exit codes: "
    + ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    + ".",
)
for panel, commands in (
    (ASSETS, (run, generate, grid, reconstruct, export)),
    (LOOKING, (view, render, evaluate)),
):
    for command in commands:
        app.command(cls=Command, rich_help_panel=panel)(command)
for group in (models, data, train):
    app.add_typer(group, rich_help_panel=MODELS)
app.command(cls=Command, rich_help_panel=MACHINE)(doctor)


def _print_version(requested: bool) -> None:
    if requested:
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
    """Turn a monocular video of a moving object into a 4D asset.

    `fourdvd run VIDEO -o OUT` does all of it: it generates a grid (images of the object from many
    views at each frame), reconstructs a scene from that (3D Gaussians that move), and exports it;
    open OUT/export/html/scene.html to look at it. The commands for these steps have more options.

    Results are written to the path given with -o; progress and messages go to stderr. Run `fourdvd
    COMMAND --help` for the options of a command.
    """


def main() -> None:
    """Run the command line of this process and exit with its exit code."""
    interrupts.install()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # print ? for characters outside the encoding
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="fourdvd")  # always raises SystemExit, also after usage errors and --help
    except SystemExit as ending:  # typer turns KeyboardInterrupt into this exit code
        if ending.code == interrupts.EXIT_CODE:
            console.show_lines("interrupted; no unfinished result was written")
        raise
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        if failure.exit_code == interrupts.EXIT_CODE:
            console.show_lines(failure.message, resume_line(sys.argv[1:]))
        else:
            console.show_error(failure.message, failure.hint)
        sys.exit(failure.exit_code)
