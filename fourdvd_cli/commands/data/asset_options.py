"""Options of the commands that read 3D assets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli.help import INPUT, MACHINE

ASSETS_HELP = (
    "GLB, glTF, FBX, Alembic or USD files, folders of them, or folders of numbered OBJ files, one "
    "per frame."
)

MaxFacesOption = Annotated[
    int,
    typer.Option(
        "--max-faces",
        metavar="N",
        min=1,
        help="Maximum number of triangles; assets with more are refused.",
        rich_help_panel=INPUT,
    ),
]
MetadataOption = Annotated[
    Path | None,
    typer.Option(
        "--metadata",
        metavar="FILE",
        help="Table of the licenses and sources of the assets.",
        show_default="assets.csv or objects.jsonl beside them",
        rich_help_panel=INPUT,
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=1,
        help="Time limit per asset in seconds.",
        rich_help_panel=MACHINE,
    ),
]
