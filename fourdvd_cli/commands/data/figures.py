"""`fourdvd data figures`: render grids of procedurally generated characters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.commands.data.picture_options import (
    AmbientOption,
    DepthOption,
    ElevationOption,
    FramesOption,
    NormalsOption,
    SamplesOption,
    SizeOption,
    SunOption,
    TracksOption,
    ViewsOption,
    YawOption,
)
from fourdvd_cli.help import INPUT, OUTPUT
from fourdvd_cli.options import (
    JsonOption,
    OverwriteOption,
    QuietOption,
    RayOption,
    VerboseOption,
    WorkersOption,
)


def figures(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder for the grids, with one subfolder per character.",
            rich_help_panel=OUTPUT,
        ),
    ],
    overwrite: OverwriteOption = False,
    count: Annotated[
        int,
        typer.Option(
            "--count",
            metavar="N",
            min=1,
            max=10**6,
            help="Number of characters.",
            rich_help_panel=INPUT,
        ),
    ] = 100,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            max=10**8 - 1,
            help="Random seed of the first character; the others have the seeds that follow.",
            rich_help_panel=INPUT,
        ),
    ] = 0,
    views: ViewsOption = 16,
    frames: FramesOption = 21,
    size: SizeOption = 128,
    elevation: ElevationOption = 0.0,
    yaw: YawOption = 0.0,
    samples: SamplesOption = 16,
    ambient: AmbientOption = 0.55,
    sun: SunOption = 1.6,
    depth: DepthOption = False,
    normals: NormalsOption = False,
    tracks: TracksOption = 0,
    workers: WorkersOption = None,
    ray: RayOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Render grids of procedurally generated, animated characters; needs no Blender.

    Each character is determined by its seed alone. Run the command again to resume it, also with a
    larger --count; finished grids are kept.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.asset_rendering import Batch
    from generation.curation.assets.limits import Limits
    from generation.curation.render import settings as render_settings
    from generation.curation.render.settings import Light

    settings = render_settings.RenderSettings(
        views=views, frames=frames, size=size, elevation_deg=elevation, yaw_deg=yaw,
        samples=samples, light=Light(ambient=ambient, sun=sun),
        renderer=render_settings.Renderer.fast, device="cpu",
        depth=depth, normals=normals, tracks=tracks,
    )  # fmt: skip
    batch = Batch(
        output, settings, Limits(), workers=workers, ray=ray, overwrite=overwrite, quiet=quiet
    )
    summary = batch.render_figures(seed, count)
    if json:
        console.print_json(summary)
