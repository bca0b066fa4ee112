"""`fourdvd reconstruct`: grid → scene."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.options import (
    Device,
    DeviceOption,
    JsonOption,
    MotionOption,
    OverwriteOption,
    Quality,
    QualityOption,
    QuietOption,
    SeedOption,
    ShDegreeOption,
    VerboseOption,
)


def reconstruct(
    grid: Annotated[
        Path,
        typer.Argument(
            metavar="GRID", help="Grid, D-NeRF or nerfstudio folder, or its transforms JSON."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="SCENE", help="Scene folder.")],
    quality: QualityOption = Quality.standard,
    motion: MotionOption = None,
    device: DeviceOption = Device.auto,
    seed: SeedOption = 0,
    sh_degree: ShDegreeOption = 0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Grid of views → scene of deformable Gaussians.

    Ctrl-C saves the state; the same command goes on from there.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.fitting import FitSettings, fit

    settings = FitSettings(quality.value, motion and motion.value, device.value, seed, sh_degree)
    scene = fit(grid, output, settings, overwrite=overwrite, quiet=quiet)
    if json:
        console.print_json(scene.metrics)
