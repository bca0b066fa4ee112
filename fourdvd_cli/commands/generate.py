"""`fourdvd generate`: video → grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli.errors import NotBuiltYetError

NOT_BUILT = (
    "generate is not built yet: this version starts from a grid of views. Make one with "
    "`fourdvd grid` from the per-view videos of another model, or render one"
)


def generate(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="Video, GIF or folder of frames.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="GRID", help="Grid folder.")],
) -> None:
    """Video → grid of views (not built yet)."""
    raise NotBuiltYetError(NOT_BUILT)
