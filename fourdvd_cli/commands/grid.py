"""`fourdvd grid`: per-view videos of another model → grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.options import (
    Degrees,
    OverwriteOption,
    QuietOption,
    VerboseOption,
    parse_degrees,
)


def grid(
    videos: Annotated[
        list[Path], typer.Argument(metavar="VIDEO", help="One video for each view, in order.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="GRID", help="Grid folder.")],
    azimuths: Annotated[
        Degrees | None,
        typer.Option(
            "--azimuths",
            metavar="DEG,DEG,…",
            parser=parse_degrees,
            help="Counter-clockwise from the front, seen from above; one for each video.",
            show_default="evenly around, the first in front",
        ),
    ] = None,
    elevations: Annotated[
        Degrees,
        typer.Option(
            "--elevations",
            "--elevation",
            metavar="DEG,DEG,…",
            parser=parse_degrees,
            help="Above the horizon; one for each video, or one for all.",
        ),
    ] = Degrees((0.0,)),
    fov: Annotated[
        float, typer.Option("--fov", help="Horizontal field of view in degrees.")
    ] = 33.8,
    distance: Annotated[
        float, typer.Option("--distance", help="From the cameras to the object, world units.")
    ] = 2.0,
    fps: Annotated[
        float | None,
        typer.Option("--fps", min=1, max=240, help="Frames a second.", show_default="the videos'"),
    ] = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Per-view videos of any other model → grid folder."""
    console.configure(quiet, verbose)
    from recon.grid import write_grid
    from recon.grid.view_videos import grid_from_videos
    from recon.output import check_output

    check_output(output, overwrite)
    around = [360.0 * view / len(videos) for view in range(len(videos))]
    made = grid_from_videos(
        videos, azimuths.values if azimuths else around, elevations.values, fov, distance, fps
    )
    write_grid(made, output, overwrite)
    console.say(f"wrote {output}: {made.V} views of {made.T} frames")
