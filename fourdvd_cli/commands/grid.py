"""`fourdvd grid`: make a grid from the per-view videos of another model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import CAMERAS, INPUT, OUTPUT
from fourdvd_cli.options import (
    Degrees,
    DistanceOption,
    FovOption,
    OverwriteOption,
    QuietOption,
    VerboseOption,
    parse_degrees,
)


def grid(
    videos: Annotated[
        list[Path],
        typer.Argument(metavar="VIDEO...", help="One video per view, in the order of views."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="GRID",
            help="Grid folder to write.",
            rich_help_panel=OUTPUT,
        ),
    ],
    overwrite: OverwriteOption = False,
    azimuths: Annotated[
        Degrees | None,
        typer.Option(
            "--azimuths",
            metavar="DEG,DEG,...",
            parser=parse_degrees,
            help="Azimuth of each camera in degrees, counter-clockwise seen from above; 0 is the "
            "front.",
            show_default="evenly spaced, the first in front",
            rich_help_panel=CAMERAS,
        ),
    ] = None,
    elevations: Annotated[
        Degrees,
        typer.Option(
            "--elevation",
            metavar="DEG,...",
            parser=parse_degrees,
            help="Elevation of the cameras above the horizon in degrees; one for all, or one per "
            "video.",
            rich_help_panel=CAMERAS,
        ),
    ] = Degrees((0.0,)),
    fov: FovOption = 33.8,
    distance: DistanceOption = 2.0,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps",
            metavar="HZ",
            min=1,
            max=240,
            help="Frame rate of the grid in frames per second.",
            show_default="that of the videos",
            rich_help_panel=INPUT,
        ),
    ] = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Make a grid from the per-view videos of another multi-view model."""
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
