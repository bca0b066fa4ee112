"""`fourdvd view`: play a scene in the browser."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import INPUT, OUTPUT
from fourdvd_cli.options import Axes, QuietOption, VerboseOption, check_inputs, one_of
from fourdvd_cli.playing import playing, wait_for_interrupt


def view(
    scene: Annotated[
        Path,
        typer.Argument(
            metavar="SCENE",
            help="Scene folder, also while its fit runs; nerfstudio run of the method fourdvd; PLY "
            "file, or folder with a PLY file for each frame.",
        ),
    ],
    axes: Annotated[
        Axes,
        typer.Option(
            "--axes",
            metavar="NAME",
            help=f"Axes of PLY files: {one_of(Axes)}.",
            rich_help_panel=INPUT,
        ),
    ] = Axes.y_down,
    port: Annotated[
        int,
        typer.Option(
            "--port",
            metavar="N",
            min=0,
            max=65535,
            help="TCP port on 127.0.0.1.",
            show_default="any free one",
            rich_help_panel=OUTPUT,
        ),
    ] = 0,
    no_browser: Annotated[
        bool,
        typer.Option(
            "--no-browser",
            help="Do not open a browser; the address is printed on stdout in any case.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Play a scene in the browser, with a time slider.

    The page is served to this machine only. Ctrl-C ends the command.
    """
    console.configure(quiet, verbose)
    check_inputs(scene)
    from recon.viewer.server import PlayerServer
    from recon.viewer.sources import open_source

    source = open_source(scene, axes.value)
    with PlayerServer(source, scene.resolve().name, port) as server:
        if source.state().revision:
            server.scene()  # an invalid scene ends the command here
        with contextlib.suppress(KeyboardInterrupt), playing(server, browser=not no_browser):
            console.print_lines([server.url])
            wait_for_interrupt()
