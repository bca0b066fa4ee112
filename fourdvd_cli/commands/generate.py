"""`fourdvd generate`: generate a grid from a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fourdvd_cli import console, interrupts
from fourdvd_cli.help import CAMERAS, INPUT, MACHINE, MODEL, OUTPUT
from fourdvd_cli.options import (
    Degrees,
    Device,
    DeviceOption,
    Direction,
    DistanceOption,
    FovOption,
    JsonOption,
    LowMemoryOption,
    Model,
    ModelOption,
    OrbitModel,
    OverwriteOption,
    Precision,
    QuietOption,
    RecenterOption,
    SeedOption,
    SourceFpsOption,
    StepsOption,
    VerboseOption,
    WeightsOption,
    check_inputs,
    one_of,
    parse_degrees,
    usage,
)


def generate(
    video: Annotated[
        Path,
        typer.Argument(
            metavar="VIDEO", help="Video, GIF, image or folder of frames of one object."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="GRID",
            help="Grid folder to write; required unless --dry-run is given.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Report the cost without running a network; with -o, also write the prepared "
            "input into GRID.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    model: ModelOption = Model.auto,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            metavar="PIXELS",
            min=64,
            max=1024,
            help="Side of the images in pixels, a multiple of 64 for all models but lift.",
            show_default="256 for lift, 128 for mini, else 576",
            rich_help_panel=MODEL,
        ),
    ] = None,
    orbit_model: Annotated[
        OrbitModel | None,
        typer.Option(
            "--orbit-model",
            metavar="NAME",
            help=f"Model of the reference views for sv4d and 4dvd: {one_of(OrbitModel)}.",
            show_default="sv3d_p for 4dvd, else sv3d_u",
            rich_help_panel=MODEL,
        ),
    ] = None,
    coarse_only: Annotated[
        bool,
        typer.Option(
            "--coarse-only",
            help="Skip the fine stage of mini and 4dvd, and upsample the coarse grid.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    weights: WeightsOption = None,
    start: Annotated[
        float,
        typer.Option(
            "--start",
            metavar="SECONDS",
            help="Start time in the video in seconds.",
            rich_help_panel=INPUT,
        ),
    ] = 0.0,
    stop: Annotated[
        float | None,
        typer.Option(
            "--stop",
            metavar="SECONDS",
            help="End time in the video in seconds.",
            show_default="the end of the video",
            rich_help_panel=INPUT,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            metavar="N",
            help="Number of frames to use; at least 5 for all models but lift.",
            show_default="21, or all of a shorter video",
            rich_help_panel=INPUT,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps",
            metavar="HZ",
            help="Sampling rate of the frames in frames per second.",
            show_default="evenly spaced from start to stop",
            rich_help_panel=INPUT,
        ),
    ] = None,
    source_fps: SourceFpsOption = None,
    recenter: RecenterOption = False,
    remove_background: Annotated[
        bool,
        typer.Option(
            "--remove-background",
            help="Remove the background with rembg, if the video has no alpha channel.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    views: Annotated[
        int | None,
        typer.Option(
            "--views",
            metavar="N",
            min=1,
            help="Number of generated views, evenly spaced around the object, in addition to the "
            "input view; at most 20 for all models but lift.",
            show_default="the model's",
            rich_help_panel=CAMERAS,
        ),
    ] = None,
    azimuths: Annotated[
        Degrees | None,
        typer.Option(
            "--azimuths",
            metavar="DEG,DEG,...",
            parser=parse_degrees,
            help="Azimuths of the generated views in degrees relative to the input view, "
            "ascending.",
            show_default="the model's",
            rich_help_panel=CAMERAS,
        ),
    ] = None,
    direction: Annotated[
        Direction,
        typer.Option(
            "--azimuth-direction",
            metavar="DIR",
            help=f"Direction in which azimuths increase, seen from above: {one_of(Direction)}.",
            rich_help_panel=CAMERAS,
        ),
    ] = Direction.ccw,
    elevation: Annotated[
        float | None,
        typer.Option(
            "--elevation",
            metavar="DEG",
            min=-90,
            max=90,
            help="Elevation of the input view above the horizon in degrees.",
            show_default="10 for lift, sv4d and 4dvd, else 0",
            rich_help_panel=CAMERAS,
        ),
    ] = None,
    fov: FovOption = 33.8,
    distance: DistanceOption = 2.0,
    device: DeviceOption = Device.auto,
    precision: Annotated[
        Precision,
        typer.Option(
            "--precision",
            metavar="NAME",
            help=f"{one_of(Precision)}; auto is bfloat16 on CUDA, for lift also on CPUs with "
            "instructions for it, and float32 elsewhere.",
            rich_help_panel=MACHINE,
        ),
    ] = Precision.auto,
    low_memory: LowMemoryOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Generate a grid of views x frames from a video of one object.

    The background must be white, of another uniform color, or transparent; --remove-background
    cuts the object out of any other. Ctrl-C saves the state; run the same command again to resume.
    """
    console.configure(quiet, verbose)
    if output is None and not dry_run:
        raise typer.BadParameter("required unless --dry-run is given", param_hint="-o")
    from fourdvd_cli import generating
    from generation.clip.reading import FrameSelection

    options: dict[str, Any] = {
        "orbit_model": orbit_model and orbit_model.value,
        "steps": steps,
        "seed": seed,
        "azimuths_deg": azimuths.values if azimuths else (),
        "views": views,
        "elevation_deg": elevation,
        "fov_deg": fov,
        "distance": distance,
        "clockwise": direction is Direction.cw,
        "precision": precision.value,
        "low_memory": low_memory,
        "coarse_only": coarse_only,
        "size": size,
    }
    with usage():
        generating.check_settings(model, **options)
        FrameSelection(frames, start, stop, fps, source_fps)
    check_inputs(video)
    with interrupts.stop_request() as should_stop:  # before the imports, which take seconds
        from generation.checkpoint import check_folder, write_input
        from generation.pipelines import dry_run as report_dry_run
        from generation.pipelines import open_pipeline
        from generation.settings import GenerateSettings
        from recon.devices import resolve_network_device

        on_device = resolve_network_device(device.value)
        name, why = generating.chosen_model(model, on_device, weights)
        with usage():
            settings = GenerateSettings(name, device=on_device, **options)
        if output is not None:
            check_folder(output, overwrite)
        clip, plan = generating.prepare(
            video,
            settings,
            why,
            frames=frames,
            start=start,
            stop=stop,
            fps=fps,
            source_fps=source_fps,
            recenter=recenter,
            remove_background=remove_background,
        )
        if dry_run:
            preview = None if output is None else write_input(output, clip) / "preview.png"
            report = report_dry_run(clip, plan, settings, preview, weights)
            if json:
                console.print_json(report)
            else:
                console.print_lines(generating.dry_run_lines(report))
        pipeline = open_pipeline(settings, weights, keep_networks=False)
        if output is None or dry_run:
            return  # after `open_pipeline`, so that missing weights determine the exit code
        report = generating.generate(
            pipeline, clip, output, should_stop, overwrite=overwrite, quiet=quiet
        )
    if json:
        console.print_json(report)
