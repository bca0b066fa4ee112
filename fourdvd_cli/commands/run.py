"""`fourdvd run`: the whole way in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
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
    StepsOption,
    VerboseOption,
    WeightsOption,
)


def run(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="Video, GIF or folder of frames; or a grid folder, or its transforms JSON.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="Gets grid, scene and export.")
    ],
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format", "-f", help="May be given several times.", show_default="ply and glb"
        ),
    ] = None,
    quality: QualityOption = Quality.standard,
    motion: MotionOption = None,
    device: DeviceOption = Device.auto,
    seed: SeedOption = 0,
    sh_degree: ShDegreeOption = 0,
    model: ModelOption = Model.mini,
    steps: StepsOption = None,
    weights: WeightsOption = None,
    low_memory: LowMemoryOption = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Video → grid → scene → exported files, in one folder; a grid skips the first step.

    Run again with the same OUT to go on where it stopped, or to add formats. Cut the video first,
    or call the commands one by one, for more choices.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.fitting import FitSettings
    from fourdvd_cli.pipeline import run_pipeline
    from generation.settings import GenerateSettings

    settings = FitSettings(quality.value, motion and motion.value, device.value, seed, sh_degree)
    names = [name.value for name in formats or (Format.ply, Format.glb)]
    run_pipeline(
        source,
        output,
        names,
        settings,
        GenerateSettings(
            model=model.key, steps=steps, seed=seed, low_memory=low_memory, device=device.value
        ),
        weights_folder=weights,
        overwrite=overwrite,
        quiet=quiet,
    )
