"""`fourdvd generate`: video → grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.options import (
    Degrees,
    Device,
    DeviceOption,
    Direction,
    JsonOption,
    LowMemoryOption,
    Model,
    ModelOption,
    OrbitModel,
    OverwriteOption,
    Precision,
    QuietOption,
    SeedOption,
    StepsOption,
    VerboseOption,
    WeightsOption,
    parse_degrees,
)


def generate(
    video: Annotated[
        Path, typer.Argument(metavar="VIDEO", help="Video, GIF or folder of frames, one object.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="GRID", help="Grid folder.")],
    model: ModelOption = Model.mini,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Prepare the input and tell the cost; no network runs."),
    ] = False,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    views: Annotated[
        int | None,
        typer.Option(
            "--views",
            min=1,
            max=20,
            help="Generated views, evenly around, beside the input's own.",
            show_default="the model's",
        ),
    ] = None,
    azimuths: Annotated[
        Degrees | None,
        typer.Option(
            "--azimuths",
            metavar="DEG,DEG,…",
            parser=parse_degrees,
            help="Of the generated views, from the input view.",
            show_default="the model's",
        ),
    ] = None,
    elevation: Annotated[
        float | None,
        typer.Option(
            "--elevation",
            min=-90,
            max=90,
            help="Degrees of the input's camera above the horizon.",
            show_default="10 for sv4d and 4dvd, else 0",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option("--frames", help="Number of frames, 5 or more.", show_default="21, or all"),
    ] = None,
    start: Annotated[float, typer.Option("--start", help="Seconds into the video.")] = 0.0,
    stop: Annotated[
        float | None,
        typer.Option("--stop", help="Seconds into the video.", show_default="its end"),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option("--fps", help="Take frames at this rate.", show_default="evenly to the end"),
    ] = None,
    recenter: Annotated[
        bool, typer.Option("--recenter", help="Follow an object that travels.")
    ] = False,
    remove_background: Annotated[
        bool, typer.Option("--remove-background", help="Cut the object out, through rembg.")
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=64,
            max=1024,
            help="Pixels a side, a multiple of 64.",
            show_default="128 for mini, else 576",
        ),
    ] = None,
    orbit_model: Annotated[
        OrbitModel | None,
        typer.Option(
            "--orbit-model",
            help="Makes the first frame's views for sv4d and 4dvd.",
            show_default="sv3d_p for 4dvd, else sv3d_u",
        ),
    ] = None,
    coarse_only: Annotated[
        bool, typer.Option("--coarse-only", help="End mini or 4dvd with its first stage, enlarged.")
    ] = False,
    fov: Annotated[
        float, typer.Option("--fov", help="Horizontal field of view of the cameras in degrees.")
    ] = 33.8,
    radius: Annotated[
        float, typer.Option("--radius", help="From the cameras to the object, world units.")
    ] = 2.0,
    direction: Annotated[
        Direction,
        typer.Option("--azimuth-direction", help="How azimuths count, seen from above."),
    ] = Direction.ccw,
    weights: WeightsOption = None,
    precision: Annotated[
        Precision, typer.Option("--precision", help="auto: bfloat16 on CUDA, float32 on a CPU.")
    ] = Precision.auto,
    low_memory: LowMemoryOption = False,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Video of one object → grid of views.

    The object must be on white, or cut out (alpha). Ctrl-C stops; the same command goes on after
    the last finished pass.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.generating import Generation, dry_run_lines
    from generation.clip.preparing import ClipOptions
    from generation.presets import recipes
    from generation.settings import GenerateSettings

    recipe = recipes[model.key]
    generation = Generation(
        video,
        output,
        ClipOptions(
            frames,
            start,
            stop,
            fps,
            size or recipe.size,
            recipe.ratio,
            recenter,
            remove_background,
        ),
        GenerateSettings(
            model=model.key,
            orbit_model=orbit_model and orbit_model.value,
            steps=steps,
            seed=seed,
            azimuths_deg=azimuths.values if azimuths else (),
            views=views,
            elevation_deg=elevation,
            fov_deg=fov,
            distance=radius,
            clockwise=direction is Direction.cw,
            precision=precision.value,
            low_memory=low_memory,
            device=device.value,
            coarse_only=coarse_only,
        ),
        weights,
        overwrite,
        quiet,
    )
    if dry_run:
        report = generation.dry_run()
        if json:
            console.print_json(report)
        else:
            console.print_lines(dry_run_lines(report))
        generation.find_weights()  # last: its error is the exit code
    else:
        report = generation.run()
        if json:
            console.print_json(report)
