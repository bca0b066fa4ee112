"""`fourdvd data figures`: animated figures by lot → grids."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.commands.data.picture_options import (
    AmbientOption,
    DepthOption,
    ElevationOption,
    NormalsOption,
    SamplesOption,
    SizeOption,
    SunOption,
    TracksOption,
    ViewsOption,
)
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
        typer.Option("--output", "-o", metavar="DIR", help="Each figure gets a folder in it."),
    ],
    count: Annotated[int, typer.Option("--count", min=1, max=10**6, help="How many.")] = 100,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", min=0, max=10**8 - 1, help="Of the first figure; the next has the next seed."
        ),
    ] = 0,
    views: ViewsOption = 16,
    frames: Annotated[int, typer.Option("--frames", min=1, max=1000)] = 21,
    size: SizeOption = 128,
    elevation: ElevationOption = 0.0,
    yaw: Annotated[
        float,
        typer.Option("--yaw", metavar="DEG", help="Turn of the figures, seen from above."),
    ] = 0.0,
    samples: SamplesOption = 16,
    ambient: AmbientOption = 0.55,
    sun: SunOption = 1.6,
    depth: DepthOption = False,
    normals: NormalsOption = False,
    tracks: TracksOption = 0,
    workers: WorkersOption = None,
    ray: RayOption = None,
    json: JsonOption = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Animated figures by lot → grids with cameras, as `data render` makes them; no Blender.

    A figure depends on its seed alone, and no two are alike. Run again to go on, also with a larger
    count; what is done is not done again.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.asset_rendering import Batch
    from generation.curation import render_settings
    from generation.curation.inspection import Limits
    from generation.curation.light import Light

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
