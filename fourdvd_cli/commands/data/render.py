"""`fourdvd data render`: animated 3D assets → grids."""

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
    Device,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    RayOption,
    Renderer,
    VerboseOption,
    WorkersOption,
)


def render(
    assets: Annotated[
        list[Path],
        typer.Argument(
            metavar="ASSET...",
            help="GLB, glTF, FBX, Alembic or USD files, folders of them, or folders of numbered "
            "OBJ files.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Each asset gets a folder in it."),
    ],
    action: Annotated[
        str | None,
        typer.Option(
            "--action", metavar="NAME", help="Animation.", show_default="the one that moves most"
        ),
    ] = None,
    views: ViewsOption = 16,
    frames: Annotated[
        int, typer.Option("--frames", min=1, max=1000, help="Over the whole animation.")
    ] = 21,
    size: SizeOption = 576,
    elevation: ElevationOption = 0.0,
    yaw: Annotated[
        float,
        typer.Option("--yaw", metavar="DEG", help="Turn of the asset, seen from above."),
    ] = 0.0,
    stretch: Annotated[
        float,
        typer.Option(
            "--stretch",
            metavar="FACTOR",
            min=1,
            max=4,
            help="Stretch or squeeze each asset along each of its axes by up to so much, at "
            "random: more shapes to train on.",
        ),
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the stretch.")] = 0,
    samples: SamplesOption = 16,
    ambient: AmbientOption = 0.55,
    sun: SunOption = 1.6,
    renderer: Annotated[
        Renderer, typer.Option("--renderer", help="fast is for small training images.")
    ] = Renderer.cycles,
    depth: DepthOption = False,
    normals: NormalsOption = False,
    tracks: TracksOption = 0,
    metadata: Annotated[
        Path | None,
        typer.Option(
            "--metadata",
            metavar="FILE",
            help="Licences and sources of the assets.",
            show_default="assets.csv or objects.jsonl beside them",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="For one asset.")
    ] = 1800.0,
    max_triangles: Annotated[
        int, typer.Option("--max-triangles", min=1, help="Assets with more are refused.")
    ] = 2_000_000,
    workers: WorkersOption = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            min=1,
            help="For one asset.",
            show_default="the cores over the workers; 1 with --ray",
        ),
    ] = None,
    ray: RayOption = None,
    device: DeviceOption = Device.auto,
    json: JsonOption = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Animated 3D assets → grids with cameras, through Blender.

    manifest.jsonl in DIR tells what came of each asset. One that is broken, crashes or hangs does
    not stop the others. Run again to go on; what is done is not done again.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.asset_rendering import Batch
    from generation.curation import render_settings
    from generation.curation.inspection import Limits
    from generation.curation.light import Light

    settings = render_settings.RenderSettings(
        action=action, views=views, frames=frames, size=size, elevation_deg=elevation, yaw_deg=yaw,
        stretch=stretch, seed=seed, samples=samples, light=Light(ambient=ambient, sun=sun),
        renderer=render_settings.Renderer(renderer), device=device.value,
        depth=depth, normals=normals, tracks=tracks,
    )  # fmt: skip
    batch = Batch(
        output, settings, Limits(triangles=max_triangles), timeout, workers, threads, ray,
        overwrite, quiet,
    )  # fmt: skip
    summary = batch.render_files(assets, metadata)
    if json:
        console.print_json(summary)
