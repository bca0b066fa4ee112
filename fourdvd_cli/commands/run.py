"""`fourdvd run`: video to exported files in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import OUTPUT
from fourdvd_cli.options import (
    Device,
    DeviceOption,
    Format,
    LowMemoryOption,
    Model,
    ModelOption,
    MotionOption,
    OverwriteOption,
    Quality,
    QualityOption,
    QuietOption,
    SeedOption,
    ShDegreeOption,
    SkipMissingOption,
    StepsOption,
    Up,
    UpOption,
    VerboseOption,
    WeightsOption,
    one_of,
)


def run(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="Video, GIF, image or folder of frames of one object; or a grid folder, or its "
            "transforms JSON.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Folder for the results: grid, scene, export.",
            rich_help_panel=OUTPUT,
        ),
    ],
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help=f"{one_of(Format)}; may be repeated.",
            show_default="html, ply and glb",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    model: ModelOption = Model.auto,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    weights: WeightsOption = None,
    quality: QualityOption = Quality.standard,
    motion: MotionOption = None,
    sh_degree: ShDegreeOption = 0,
    up: UpOption = Up.auto,
    skip_missing: SkipMissingOption = False,
    device: DeviceOption = Device.auto,
    low_memory: LowMemoryOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Turn a video into a 4D asset: generate, reconstruct and export in one folder.

    If INPUT is a grid, generate is skipped. Run the command again with the same OUT to resume it,
    or to add formats. For more options, such as the part of the video to use, run the three
    commands one by one.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli import generating
    from fourdvd_cli.commands.run_chain import run_chain
    from generation.clip.reading import is_clip
    from generation.settings import GenerateSettings
    from recon.devices import resolve_network_device

    generation = None
    if is_clip(source):
        on_device = resolve_network_device(device.value)
        generation = GenerateSettings(
            model=generating.chosen_model(model, on_device, weights),
            steps=steps,
            seed=seed,
            low_memory=low_memory,
            device=on_device,
        )
    settings = {
        "quality": quality.value,
        "motion": motion and motion.value,
        "device": device.value,
        "seed": seed,
        "sh_degree": sh_degree,
    }
    names = [name.value for name in formats or (Format.html, Format.ply, Format.glb)]
    run_chain(
        source,
        output,
        names,
        settings,
        generation,
        weights_folder=weights,
        up=up.value,
        skip_missing=skip_missing,
        overwrite=overwrite,
        quiet=quiet,
    )
