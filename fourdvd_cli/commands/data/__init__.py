"""`fourdvd data`: training data from animated assets, one command a file."""

from __future__ import annotations

import typer

from fourdvd_cli.commands.data.figures import figures
from fourdvd_cli.commands.data.filter import filter_grids
from fourdvd_cli.commands.data.objaverse import objaverse
from fourdvd_cli.commands.data.pack import pack
from fourdvd_cli.commands.data.render import render

data = typer.Typer(
    name="data",
    help="Training data: fetch or make animated assets, render, filter and pack them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
data.command()(objaverse)
data.command()(render)
data.command()(figures)
data.command("filter")(filter_grids)
data.command()(pack)
