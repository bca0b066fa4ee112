"""`fourdvd data filter`: rendered grids → which of them are fit for training, and why not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.options import (
    Device,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    RayOption,
    VerboseOption,
    WorkersOption,
)


def filter_grids(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of grids, as `fourdvd data render` fills.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="REPORT", help="Report folder.", show_default="DIR/filter"
        ),
    ] = None,
    min_motion: Annotated[
        float,
        typer.Option(
            "--min-motion",
            min=0,
            help="Mean displacement a frame at least, in diagonals of the object.",
        ),
    ] = 0.0015,
    max_motion: Annotated[
        float,
        typer.Option(
            "--max-motion",
            min=0,
            help="Displacement of the fastest parts in the fastest frame at most, likewise.",
        ),
    ] = 0.13,
    min_smoothness: Annotated[
        float,
        typer.Option(
            "--min-smoothness",
            min=0,
            max=2,
            help="Displacement over two frames by that over one: 2 steady, 1 flicker.",
        ),
    ] = 1.15,
    min_coverage: Annotated[
        float,
        typer.Option(
            "--min-coverage", min=0, max=1, help="Share of an image that the object fills at least."
        ),
    ] = 0.005,
    max_cut_off: Annotated[
        float,
        typer.Option(
            "--max-cut-off", min=0, max=1, help="Share of images in which it reaches the border."
        ),
    ] = 0.25,
    min_sharpness: Annotated[
        float, typer.Option("--min-sharpness", min=0, max=1, help="Blurry below it.")
    ] = 0.25,
    max_clutter: Annotated[
        float, typer.Option("--max-clutter", min=0, max=1, help="Chaotic above it.")
    ] = 0.25,
    max_grain: Annotated[
        float, typer.Option("--max-grain", min=0, max=1, help="Noisy above it.")
    ] = 0.07,
    lpips: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--lpips",
            metavar="VGG HEADS",
            help="Measure LPIPS, too: torchvision's vgg16 weights and LPIPS 0.1's vgg.pth.",
        ),
    ] = None,
    min_lpips: Annotated[
        float | None, typer.Option("--min-lpips", min=0, help="No detail below it; needs --lpips.")
    ] = None,
    max_lpips: Annotated[
        float | None, typer.Option("--max-lpips", min=0, help="Chaotic above it; needs --lpips.")
    ] = None,
    raft: Annotated[
        Path | None,
        typer.Option(
            "--raft", metavar="FILE", help="Optical flow by RAFT, with torchvision's raft_large."
        ),
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(
            "--llm",
            metavar="MODEL",
            help="Ask this multimodal language model whether objects are complete: "
            "a folder, a name on the hub, or what --llm-url calls it.",
        ),
    ] = None,
    llm_url: Annotated[
        str | None,
        typer.Option(
            "--llm-url",
            metavar="URL",
            help="Server of the model, as http://localhost:8000/v1; key in OPENAI_API_KEY.",
        ),
    ] = None,
    llm_download: Annotated[
        bool, typer.Option("--llm-download", help="Fetch the model if it is not here.")
    ] = False,
    device: DeviceOption = Device.auto,
    duplicate_distance: Annotated[
        int,
        typer.Option(
            "--duplicate-distance", min=0, help="Bits of 1056 in which duplicates may differ."
        ),
    ] = 16,
    duplicates: Annotated[
        bool, typer.Option("--duplicates/--no-duplicates", help="Throw duplicates out.")
    ] = True,
    workers: WorkersOption = None,
    ray: RayOption = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Rendered grids → which are fit for training: sharp, moving, complete, seen once.

    The report holds kept.txt (for `fourdvd data pack`), scores.jsonl, filter.json, report.html and
    sheets of small images. DIR is not changed otherwise. Scores of an older report are used again
    while grids and measures are the same, so other limits take a moment; pass --overwrite.
    """
    console.configure(quiet, verbose)
    if llm_url is not None and llm is None:
        raise typer.BadParameter("needs --llm beside it", param_hint="--llm-url")
    if lpips is None and not (min_lpips is max_lpips is None):
        raise typer.BadParameter("need --lpips beside them", param_hint="--min-lpips, --max-lpips")
    from fourdvd_cli.filtering import JudgeChoice, report_folder, run_filters
    from generation.curation.filters import FilterJob, ScoringSettings, Thresholds

    thresholds = Thresholds(
        min_coverage=min_coverage,
        max_cut_off=max_cut_off,
        min_sharpness=min_sharpness,
        max_clutter=max_clutter,
        max_grain=max_grain,
        min_lpips=min_lpips,
        max_lpips=max_lpips,
        min_motion=min_motion,
        max_motion=max_motion,
        min_smoothness=min_smoothness,
        duplicate_distance=duplicate_distance if duplicates else None,
    )
    job = FilterJob(
        folder,
        report_folder(folder, output),
        ScoringSettings(lpips, raft),
        thresholds,
        overwrite=overwrite,
    )
    choice = JudgeChoice(llm, llm_url, device.value, llm_download)
    summary = run_filters(job, choice, workers, ray, quiet)
    if json:
        console.print_json(summary)
