"""`fourdvd reconstruct`: fit a scene to a grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import OUTPUT
from fourdvd_cli.options import (
    Device,
    DeviceOption,
    FitSeedOption,
    JsonOption,
    MotionOption,
    OverwriteOption,
    Quality,
    QualityOption,
    QuietOption,
    ShDegreeOption,
    VerboseOption,
)


def reconstruct(
    grid: Annotated[
        Path,
        typer.Argument(
            metavar="GRID",
            help="Folder of a grid, or of a D-NeRF or nerfstudio data set; or its transforms JSON.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="SCENE",
            help="Scene folder to write.",
            rich_help_panel=OUTPUT,
        ),
    ],
    overwrite: OverwriteOption = False,
    quality: QualityOption = Quality.standard,
    motion: MotionOption = None,
    sh_degree: ShDegreeOption = 0,
    seed: FitSeedOption = 0,
    device: DeviceOption = Device.auto,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Fit a scene of deformable 3D Gaussians to a grid.

    Ctrl-C saves the state of the fit; run the same command again to resume it.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.fitting import FitSettings, fit

    settings = FitSettings(quality.value, motion and motion.value, device.value, seed, sh_degree)
    scene = fit(grid, output, settings, overwrite=overwrite, quiet=quiet)
    if json:
        console.print_json(scene.metrics)
