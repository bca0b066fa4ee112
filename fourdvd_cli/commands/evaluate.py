"""`fourdvd evaluate`: compare a scene, a grid or videos with a ground-truth grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import INPUT
from fourdvd_cli.options import Device, DeviceOption, JsonOption, QuietOption, VerboseOption

if TYPE_CHECKING:
    from recon import Evaluation

HEADER = ("view", "images", "PSNR", "PSNR foreground", "worst PSNR", "SSIM", "IoU")


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
    from recon import evaluate as evaluate_files

    evaluation = evaluate_files(paths, against, device.value)
    if json:
        console.print_json(evaluation.to_json())
        return
    rows = [_row(str(view), part) for view, part in evaluation.by_view().items()]
    console.print_table(HEADER, [*rows, _row("all", evaluation)])


def _row(name: str, part: Evaluation) -> tuple[str, ...]:
    foreground = "–" if part.psnr_foreground is None else f"{part.psnr_foreground:.2f}"
    return (
        name,
        str(len(part.images)),
        f"{part.psnr:.2f}",
        foreground,
        f"{part.worst_psnr:.2f}",
        f"{part.ssim:.4f}",
        f"{part.iou:.4f}",
    )
