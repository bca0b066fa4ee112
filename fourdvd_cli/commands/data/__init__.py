"""`fourdvd data`: training data from animated assets, one command per file."""

from __future__ import annotations

import typer

from fourdvd_cli.commands.data.bake import bake
from fourdvd_cli.commands.data.figures import figures
from fourdvd_cli.commands.data.filter import filter_grids
from fourdvd_cli.commands.data.objaverse import objaverse
from fourdvd_cli.commands.data.pack import pack
from fourdvd_cli.commands.data.render import render
from fourdvd_cli.help import Command, Group
from fourdvd_cli.options import RENAMED, renamed

data = typer.Typer(
    name="data",
    cls=Group,
    help="Download or generate animated assets; render, filter and pack them for training.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
data.command(cls=Command)(objaverse)
data.command(cls=Command)(render)
data.command(cls=Command)(figures)
data.command(cls=Command)(bake)
data.command("filter", cls=Command)(filter_grids)
data.command(cls=Command, context_settings=renamed(RENAMED | {"quality": "webp-quality"}))(pack)
