"""`fourdvd evaluate`: compare a scene, a grid or videos with a ground-truth grid."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import INPUT, METRIC, OUTPUT
from fourdvd_cli.options import (
    Device,
    DeviceOption,
    JsonOption,
    MosaicOption,
    OverwriteOption,
    QuietOption,
    VerboseOption,
    WeightsOption,
    check_inputs,
    usage,
)
from recon.metrics.catalog import METRICS, default_names, parse_names

if TYPE_CHECKING:
    from recon import Evaluation
    from recon.grid.mosaic import Mosaic
    from recon.metrics.interface import Metric

LABELS = {"psnr_foreground": "PSNR foreground", "worst_psnr": "worst PSNR"}
AXES = ("y-down", "y-up", "z-up")
CONSISTENT4D = "consistent4d:"  # `recon.evaluation.consistent4d.PREFIX`
FILTERS = ("box", "bilinear", "bicubic", "lanczos")


class Fvd(StrEnum):
    """Formulas of FVD, those of `generation.metrics.fvd`."""

    pair = "pair"
    set = "set"


def evaluate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="A...",
            help="A scene; a grid; a video or folder of images for each view, in the order of the "
            "views, or a folder of these; or a folder with a PLY, GLB or OBJ file for each frame.",
            show_default="the runs of --table",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="B",
            help="Ground truth: a grid folder, its transforms JSON, or consistent4d:DIR.",
            show_default="required without --table",
            rich_help_panel=INPUT,
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            metavar="TOML",
            help="TOML file of methods and objects to evaluate in one table, as in "
            "docs/evaluation.md.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(
            "--resize",
            metavar="FILTER",
            help=f"Resize images of another size with {', '.join(FILTERS[:-1])} or {FILTERS[-1]}.",
            show_default="images of another size are refused",
            rich_help_panel=INPUT,
        ),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            "--axes",
            metavar="NAME",
            help="Axes of PLY files and meshes: y-down, y-up or z-up.",
            show_default="y-down for PLY files, y-up for meshes",
            rich_help_panel=INPUT,
        ),
    ] = None,
    scale: Annotated[
        float,
        typer.Option(
            "--scale",
            metavar="FACTOR",
            min=1e-6,
            help="Enlarge the world of a scene, PLY files or meshes by this factor.",
            rich_help_panel=INPUT,
        ),
    ] = 1.0,
    align: Annotated[
        bool,
        typer.Option(
            "--align",
            help="Align PLY files and meshes with the truth by scale, rotation about the up axis "
            "and translation, after --axes and --scale; the result is reported.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    mosaic: MosaicOption = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="NAMES",
            help=f"Any of {', '.join(METRICS)}, separated by commas.",
            show_default="psnr,ssim,iou,sharpness; also flip where its package is installed",
            rich_help_panel=METRIC,
        ),
    ] = None,
    fvd: Annotated[
        Fvd,
        typer.Option(
            "--fvd",
            metavar="FORMULA",
            help="pair: one video against one, as published; set: the Fréchet distance of the set "
            "of all videos.",
            rich_help_panel=METRIC,
        ),
    ] = Fvd.pair,
    weights: WeightsOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder for table.md, table.csv and table.json.",
            show_default="the table is only printed",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = Device.auto,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compare a scene, a grid or videos with a ground-truth grid.

    Prints the means of the metrics over a white background, as a table or with --json as one
    object. docs/evaluation.md defines the metrics and says what may be compared with what.
    """
    console.configure(quiet, verbose)
    if resize is not None and resize not in FILTERS:
        raise typer.BadParameter(f"expected {', '.join(FILTERS)}", param_hint="--resize")
    if {bool(paths), against is not None} != {table is None}:
        missing = "; --against is missing" if paths and against is None and table is None else ""
        raise typer.BadParameter(f"expected A and --against B, or only --table TOML{missing}")
    if table is None and output is not None:
        raise typer.BadParameter("only --table writes files; see --json", param_hint="-o")
    compared = (metrics, resize, axes, scale, align, mosaic)
    if table is not None and compared != (None, None, None, 1.0, False, None):
        raise typer.BadParameter("the file of --table says what is compared, and how")
    if axes is not None and axes not in AXES:
        raise typer.BadParameter(f"expected {', '.join(AXES)}", param_hint="--axes")
    shown = None if mosaic is None else _mosaic(mosaic)
    if table is not None:
        check_inputs(table)
        _table(table, output, overwrite, (weights, device, fvd), json, quiet)
        return
    assert paths is not None and against is not None
    names = _names(metrics)
    check_inputs(*paths, against.removeprefix(CONSISTENT4D))
    from recon import evaluate as evaluate_files

    opened = _opened(names, weights, device, fvd)
    with console.steps("evaluating", quiet) as on_step:
        evaluation = evaluate_files(
            paths,
            against,
            device.value,
            metrics=opened,
            resize=resize,
            axes=axes,
            scale=scale,
            aligned=align,
            mosaic=shown,
            on_step=on_step,
        )
    for note in evaluation.notes:
        console.say(note)
    for warning in evaluation.warnings:
        console.warn(warning)
    if json:
        console.print_json(evaluation.to_json())
        return
    rows = [_row(str(view), part, evaluation) for view, part in evaluation.by_view().items()]
    console.print_table(_header(evaluation), [*rows, _row("all", evaluation, evaluation)])


def _table(
    path: Path,
    output: Path | None,
    overwrite: bool,
    networks: tuple[Path | None, Device, Fvd],
    json: bool,
    quiet: bool,
) -> None:
    """Evaluate the runs of a file, print their table, and write it if a folder is named.

    Raises:
        InputError: some could not be evaluated; of the others the table is printed and written.
    """
    from recon.evaluation.table import evaluate_table, read_runs
    from recon.output import check_output, output_folder, write_json

    runs = read_runs(path)
    if output is not None:
        check_output(output, overwrite)
    opened = _opened(runs.metrics, *networks)
    with console.steps("evaluating", quiet) as on_step:
        made = evaluate_table(runs, opened, networks[1].value, on_step, console.say, console.warn)
    for method, name, reason in made.failed():
        console.show_refused("failed", f"{method}, {name}", reason)
    if not any(made.evaluations.values()):
        made.require_complete()
    if output is not None:
        with output_folder(output, overwrite) as folder:
            (folder / "table.md").write_text(made.to_markdown(), encoding="utf-8")
            (folder / "table.csv").write_text(made.to_csv(), encoding="utf-8")
            write_json(folder / "table.json", made.to_json())
    if json:
        console.print_json(made.to_json())
    else:
        console.print_lines(made.to_markdown().splitlines())
    made.require_complete()


def _opened(
    names: Sequence[str], weights: Path | None, device: Device, fvd: Fvd
) -> Sequence[str | Metric]:
    """Load the metrics that need networks; the others need no import of `generation`."""
    if not any(METRICS[name].weights or name == "st-lpips" for name in names):
        return names
    from generation.metrics import load_metrics
    from recon.devices import resolve_network_device

    return load_metrics(names, weights, resolve_network_device(device.value), fvd.value)


def _mosaic(text: str) -> Mosaic:
    from recon.grid.mosaic import parse_mosaic

    with usage("--mosaic"):
        return parse_mosaic(text)


def _names(text: str | None) -> tuple[str, ...]:
    with usage("--metrics"):
        return default_names() if text is None else parse_names(text)


def _columns(evaluation: Evaluation) -> list[str]:
    columns = []
    for key in (*evaluation.keys, *evaluation.videos):
        columns.append(key)
        if key == "psnr_foreground":
            columns.append("worst_psnr")
    return columns


def _header(evaluation: Evaluation) -> tuple[str, ...]:
    labels = [LABELS.get(key) or METRICS[key].label for key in _columns(evaluation)]
    return ("view", "images", *labels)


def _row(name: str, part: Evaluation, whole: Evaluation) -> tuple[str, ...]:
    cells = [_cell(part, key) for key in _columns(whole)]
    return (name, str(len(part.images)), *cells)


def _cell(part: Evaluation, key: str) -> str:
    value = part.worst_psnr if key == "worst_psnr" else part.mean(key)
    digits = 2 if key in LABELS else METRICS[key].digits
    return "–" if value is None else f"{value:.{digits}f}"
