"""`fourdvd data figures`: render grids of procedurally generated characters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.commands.data.batches import run_batch
from fourdvd_cli.commands.data.picture_options import (
    AmbientOption,
    DepthOption,
    ElevationOption,
    FramesOption,
    LayersOption,
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
from generation.curation.render.settings import Light, Renderer, RenderSettings

DEFAULTS = RenderSettings(size=128)


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
            help="Random seed of the first character; the others use the following seeds.",
            rich_help_panel=INPUT,
        ),
    ] = 0,
    views: ViewsOption = DEFAULTS.views,
    frames: FramesOption = DEFAULTS.frames,
    size: SizeOption = DEFAULTS.size,
    elevation: ElevationOption = DEFAULTS.elevation_deg,
    yaw: YawOption = DEFAULTS.yaw_deg,
    samples: SamplesOption = DEFAULTS.samples,
    ambient: AmbientOption = DEFAULTS.light.ambient,
    sun: SunOption = DEFAULTS.light.sun,
    depth: DepthOption = DEFAULTS.depth,
    normals: NormalsOption = DEFAULTS.normals,
    layers: LayersOption = DEFAULTS.layers,
    tracks: TracksOption = DEFAULTS.tracks,
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
    from generation.curation.figures.asset import figure_assets
    from generation.curation.render.batch import AssetBatch

    settings = RenderSettings(
        views=views, frames=frames, size=size, elevation_deg=elevation, yaw_deg=yaw,
        samples=samples, light=Light(ambient=ambient, sun=sun), renderer=Renderer.fast,
        device="cpu", depth=depth, normals=normals, layers=layers,
        tracks=tracks,
    )  # fmt: skip
    batch = AssetBatch(output, settings, workers=workers, ray=ray, overwrite=overwrite)
    run_batch(batch, figure_assets(seed, count), json, quiet)
