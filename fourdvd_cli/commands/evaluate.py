"""`fourdvd evaluate`: compare a scene, a grid or videos with a ground-truth grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import INPUT
from fourdvd_cli.options import Device, DeviceOption, JsonOption, QuietOption, VerboseOption


def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="A...", help="A scene, a grid, or one video per view, in the order of views."
        ),
    ],
    against: Annotated[
        Path,
        typer.Option(
            "--against",
            metavar="B",
            help="Ground truth: a grid folder or its transforms JSON.",
            rich_help_panel=INPUT,
        ),
    ],
    device: DeviceOption = Device.auto,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compare a scene, a grid or videos with a ground-truth grid.

    Prints PSNR, SSIM and the IoU of the silhouettes over a white background, as a table or with
    --json as one object.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.evaluating import HEADER, evaluate_paths, table_rows

    evaluation = evaluate_paths(paths, against, device.value)
    if json:
        console.print_json(evaluation.to_json())
    else:
        console.print_table(HEADER, table_rows(evaluation))
