"""`fourdvd grid`: make a grid from the per-view videos of another model or of cameras."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import CAMERAS, INPUT, OUTPUT
from fourdvd_cli.options import (
    Degrees,
    DistanceOption,
    FovOption,
    JsonOption,
    MosaicOption,
    OverwriteOption,
    QuietOption,
    SourceFpsOption,
    Up,
    UpOption,
    VerboseOption,
    check_inputs,
    parse_degrees,
    refuse_unused,
    usage,
)

if TYPE_CHECKING:
    from recon.grid import Grid

LEVEL, FOV, DISTANCE = Degrees((0.0,)), 33.8, 2.0  # cameras unless options say otherwise


def grid(
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
    clips: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="VIEW...",
            help="One video, or folder of images, per view; may be left out if --cameras names "
            "the videos.",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    cameras: Annotated[
        Path | None,
        typer.Option(
            "--cameras",
            metavar="FILE",
            help="Cameras of the views: transforms.json of nerfstudio or D-NeRF, or cameras.json "
            "of 4DAnyone. Views and cameras of the same names belong together, else those in the "
            "same place.",
            show_default="on a sphere, as the options below say",
            rich_help_panel=CAMERAS,
        ),
    ] = None,
    up: UpOption = Up.auto,
    azimuths: Annotated[
        Degrees | None,
        typer.Option(
            "--azimuths",
            metavar="DEG,DEG,...",
            parser=parse_degrees,
            help="Azimuth of each camera, or of those of one ring, in degrees, counter-clockwise "
            "seen from above; 0 is the front.",
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
            help="Elevation of the cameras above the horizon in degrees; one for all, one per "
            "view, or one per ring of equally many views, one ring after the other.",
            rich_help_panel=CAMERAS,
        ),
    ] = LEVEL,
    fov: FovOption = FOV,
    distance: DistanceOption = DISTANCE,
    masks: Annotated[
        Path | None,
        typer.Option(
            "--masks",
            metavar="DIR",
            help="Folder with a video or folder of masks for each view, of the same name; bright "
            "where the object is.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            metavar="N",
            min=1,
            help="Number of frames, evenly spaced in time.",
            show_default="all",
            rich_help_panel=INPUT,
        ),
    ] = None,
    shortest: Annotated[
        bool,
        typer.Option(
            "--shortest",
            help="Cut views at the end to the length of the shortest one.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps",
            metavar="HZ",
            min=1,
            max=240,
            help="Frame rate of the grid in frames per second.",
            show_default="that of the selected frames",
            rich_help_panel=INPUT,
        ),
    ] = None,
    dnerf: Annotated[
        bool,
        typer.Option(
            "--dnerf",
            help="Write a D-NeRF data set, for nerfstudio's dnerf-data, 4DGaussians and others; "
            "VIEW is then one grid folder.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    source_fps: SourceFpsOption = None,
    mosaic: MosaicOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Make a grid from per-view videos, or folders of images, and their cameras."""
    console.configure(quiet, verbose)
    from recon.grid import read_splits, write_grid
    from recon.grid.dnerf import write_dnerf
    from recon.grid.mosaic import parse_mosaic
    from recon.grid.view_cameras import orbit_view_cameras, read_view_cameras
    from recon.grid.view_clips import grid_from_clips
    from recon.output import check_output

    with usage("--mosaic"):
        shown = None if mosaic is None else parse_mosaic(mosaic)
    on_sphere = {
        "--azimuths": azimuths is not None,
        "--elevation": elevations != LEVEL,
        "--fov": fov != FOV,
        "--distance": distance != DISTANCE,
    }
    if dnerf:
        if not clips or len(clips) > 1:
            raise typer.BadParameter("expected one grid folder to write as a D-NeRF data set")
        of_views = on_sphere | {
            "--cameras": cameras is not None,
            "--masks": masks is not None,
            "--frames": frames is not None,
            "--shortest": shortest,
            "--fps": fps is not None,
            "--source-fps": source_fps is not None,
            "--mosaic": mosaic is not None,
        }
        refuse_unused(of_views, "it is for videos, and --dnerf writes a grid as it is")
        check_inputs(*clips)
        check_output(output, overwrite)
        splits = read_splits(clips[0], up=up.value)
        write_dnerf(splits, output, overwrite)
        _show(splits.train, output, json)
        return
    if cameras is None:
        if not clips:
            raise typer.BadParameter("expected a video or folder of images per view, or --cameras")
        angles = azimuths.values if azimuths else None
        with usage():
            count = len(clips) * (shown.views if shown else 1)
            found = orbit_view_cameras(count, angles, elevations.values, fov, distance)
        check_inputs(*clips, masks)
    else:
        refuse_unused(on_sphere, "it is for cameras on a sphere, and --cameras names a file")
        check_inputs(*(clips or ()), cameras, masks)
        found = read_view_cameras(cameras)
    check_output(output, overwrite)
    made = grid_from_clips(
        clips or [],
        found,
        masks=masks,
        frames=frames,
        shortest=shortest,
        fps=fps,
        source_fps=source_fps,
        mosaic=shown,
        up=up.value,
    )
    write_grid(made, output, overwrite)
    _show(made, output, json)


def _show(made: Grid, output: Path, json: bool) -> None:
    """Print what was written."""
    views, frames = console.numbered(made.V, "view"), console.numbered(made.T, "frame")
    console.say(f"wrote {output}: {views} of {frames}")
    if json:
        size = {"width": made.width, "height": made.height}
        console.print_json({"folder": str(output), "views": made.V, "frames": made.T, **size})
