"""`fourdvd data`: training data from animated assets, one command a file."""

from __future__ import annotations

import typer

from fourdvd_cli.commands.data.objaverse import objaverse
from fourdvd_cli.commands.data.render import render

data = typer.Typer(
    name="data",
    help="Training data: fetch animated assets, render, filter and pack them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
for command in (objaverse, render):
    data.command()(command)
