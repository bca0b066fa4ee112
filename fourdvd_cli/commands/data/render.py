"""`fourdvd data render`: render grids of animated 3D assets."""

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
from fourdvd_cli.help import IMAGES, INPUT, MACHINE, OUTPUT
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
    one_of,
)


def render(
    assets: Annotated[
        list[Path],
        typer.Argument(
            metavar="ASSET...",
            help="GLB, glTF, FBX, Alembic or USD files, folders of them, or folders of numbered "
            "OBJ files, one per frame.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder for the grids, with one subfolder per asset.",
            rich_help_panel=OUTPUT,
        ),
    ],
    overwrite: OverwriteOption = False,
    action: Annotated[
        str | None,
        typer.Option(
            "--action",
            metavar="NAME",
            help="Name of the animation to render.",
            show_default="the one with most motion",
            rich_help_panel=INPUT,
        ),
    ] = None,
    stretch: Annotated[
        float,
        typer.Option(
            "--stretch",
            metavar="FACTOR",
            min=1,
            max=4,
            help="Maximum factor by which each asset is randomly stretched or squeezed along each "
            "axis, as an augmentation; 1 leaves it unchanged.",
            rich_help_panel=INPUT,
        ),
    ] = 1.0,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            help="Random seed of --stretch.",
            rich_help_panel=INPUT,
        ),
    ] = 0,
    max_faces: Annotated[
        int,
        typer.Option(
            "--max-faces",
            metavar="N",
            min=1,
            help="Maximum number of triangles; assets with more are refused.",
            rich_help_panel=INPUT,
        ),
    ] = 2_000_000,
    metadata: Annotated[
        Path | None,
        typer.Option(
            "--metadata",
            metavar="FILE",
            help="Table of the licenses and sources of the assets.",
            show_default="assets.csv or objects.jsonl beside them",
            rich_help_panel=INPUT,
        ),
    ] = None,
    views: ViewsOption = 16,
    frames: FramesOption = 21,
    size: SizeOption = 576,
    elevation: ElevationOption = 0.0,
    yaw: YawOption = 0.0,
    renderer: Annotated[
        Renderer,
        typer.Option(
            "--renderer",
            metavar="NAME",
            help=f"{one_of(Renderer)}; fast is the built-in rasterizer, for small training images.",
            rich_help_panel=IMAGES,
        ),
    ] = Renderer.cycles,
    samples: SamplesOption = 16,
    ambient: AmbientOption = 0.55,
    sun: SunOption = 1.6,
    depth: DepthOption = False,
    normals: NormalsOption = False,
    tracks: TracksOption = 0,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=1,
            help="Time limit per asset in seconds.",
            rich_help_panel=MACHINE,
        ),
    ] = 1800.0,
    workers: WorkersOption = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            metavar="N",
            min=1,
            help="Threads per asset.",
            show_default="cores divided by workers; 1 with --ray",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    ray: RayOption = None,
    device: DeviceOption = Device.auto,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Render grids of animated 3D assets with Blender.

    An asset that is broken, crashes Blender or exceeds the time limit does not stop the others;
    DIR/manifest.jsonl records the result of each. Run the command again to resume it; finished
    grids are kept.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.asset_rendering import Batch
    from generation.curation.assets.limits import Limits
    from generation.curation.render import settings as render_settings
    from generation.curation.render.settings import Light

    settings = render_settings.RenderSettings(
        action=action, views=views, frames=frames, size=size, elevation_deg=elevation, yaw_deg=yaw,
        stretch=stretch, seed=seed, samples=samples, light=Light(ambient=ambient, sun=sun),
        renderer=render_settings.Renderer(renderer), device=device.value,
        depth=depth, normals=normals, tracks=tracks,
    )  # fmt: skip
    batch = Batch(
        output, settings, Limits(triangles=max_faces), timeout, workers, threads, ray,
        overwrite, quiet,
    )  # fmt: skip
    summary = batch.render_files(assets, metadata)
    if json:
        console.print_json(summary)
