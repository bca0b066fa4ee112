"""`fourdvd data render`: render grids of animated 3D assets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.commands.data.asset_options import (
    ASSETS_HELP,
    MaxFacesOption,
    MetadataOption,
    TimeoutOption,
)
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
from fourdvd_cli.help import IMAGES, INPUT, MACHINE, OUTPUT
from fourdvd_cli.options import (
    Device,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    RayOption,
    VerboseOption,
    WorkersOption,
    one_of,
)
from generation.curation.assets.limits import Limits
from generation.curation.render.settings import TIMEOUT_S, Light, Renderer, RenderSettings

DEFAULTS = RenderSettings()


def render(
    assets: Annotated[
        list[Path],
        typer.Argument(metavar="ASSET...", help=ASSETS_HELP),
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
            help="Name of the animation to render, if an asset has several.",
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
    ] = DEFAULTS.stretch,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            help="Random seed of --stretch.",
            rich_help_panel=INPUT,
        ),
    ] = DEFAULTS.seed,
    max_faces: MaxFacesOption = Limits().triangles,
    metadata: MetadataOption = None,
    views: ViewsOption = DEFAULTS.views,
    frames: FramesOption = DEFAULTS.frames,
    size: SizeOption = DEFAULTS.size,
    elevation: ElevationOption = DEFAULTS.elevation_deg,
    yaw: YawOption = DEFAULTS.yaw_deg,
    renderer: Annotated[
        Renderer,
        typer.Option(
            "--renderer",
            metavar="NAME",
            help=f"{one_of(Renderer)}; fast is the built-in rasterizer, for small training images.",
            rich_help_panel=IMAGES,
        ),
    ] = DEFAULTS.renderer,
    samples: SamplesOption = DEFAULTS.samples,
    ambient: AmbientOption = DEFAULTS.light.ambient,
    sun: SunOption = DEFAULTS.light.sun,
    depth: DepthOption = DEFAULTS.depth,
    normals: NormalsOption = DEFAULTS.normals,
    layers: LayersOption = DEFAULTS.layers,
    tracks: TracksOption = DEFAULTS.tracks,
    timeout: TimeoutOption = TIMEOUT_S,
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
    from generation.curation.assets.files import find_assets
    from generation.curation.render.batch import AssetBatch
    from generation.curation.render.blender_process import find_blender

    settings = RenderSettings(
        action=action, views=views, frames=frames, size=size, elevation_deg=elevation, yaw_deg=yaw,
        stretch=stretch, seed=seed, samples=samples, light=Light(ambient=ambient, sun=sun),
        renderer=renderer, device=device.value, depth=depth, normals=normals, layers=layers,
        tracks=tracks,
    )  # fmt: skip
    batch = AssetBatch(
        output, settings, Limits(triangles=max_faces), timeout, workers, threads, ray, overwrite
    )
    find_blender()
    run_batch(batch, find_assets(assets, metadata), json, quiet)
