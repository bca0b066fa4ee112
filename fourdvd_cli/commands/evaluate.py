"""`fourdvd evaluate`: scene, grid or videos against a grid → metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.options import Device, DeviceOption, JsonOption, QuietOption, VerboseOption


def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="A", help="A scene, a grid, or one video for each view in the order of views."
        ),
    ],
    against: Annotated[
        Path, typer.Option("--against", metavar="B", help="Grid folder or its transforms JSON.")
    ],
    device: DeviceOption = Device.auto,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Scene, grid or videos against a grid → metrics.

    PSNR, SSIM and IoU of the silhouettes, over white: a table, or with --json one object.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.evaluating import HEADER, evaluate_paths, table_rows

    evaluation = evaluate_paths(paths, against, device.value)
    if json:
        console.print_json(evaluation.to_json())
    else:
        console.print_table(HEADER, table_rows(evaluation))
