"""`fourdvd data filter`: select the rendered grids that are fit for training."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import LIMITS, MEASURES, OUTPUT
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
from generation.curation.filters.thresholds import Thresholds

if TYPE_CHECKING:
    from generation.curation.filters.report import Summary

DEFAULTS = Thresholds()


def filter_grids(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of grids, as written by `fourdvd data render`."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="REPORT",
            help="Folder of the report to write.",
            show_default="DIR/filter",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    min_motion: Annotated[
        float | None,
        typer.Option(
            "--min-motion",
            metavar="SHARE",
            min=0,
            help="Minimum mean displacement per frame, as a share of the object's diagonal.",
            rich_help_panel=LIMITS,
        ),
    ] = DEFAULTS.min_motion,
    max_motion: Annotated[
        float | None,
        typer.Option(
            "--max-motion",
            metavar="SHARE",
            min=0,
            help="Maximum displacement of the fastest parts in the fastest frame, as a share of "
            "the object's diagonal.",
            rich_help_panel=LIMITS,
        ),
    ] = DEFAULTS.max_motion,
    min_smoothness: Annotated[
        float | None,
        typer.Option(
            "--min-smoothness",
            metavar="RATIO",
            min=0,
            max=2,
            help="Minimum ratio of the displacement over two frames to that over one: 2 is steady "
            "motion, 1 is flicker.",
            rich_help_panel=LIMITS,
        ),
    ] = DEFAULTS.min_smoothness,
    min_coverage: Annotated[
        float | None,
        typer.Option(
            "--min-coverage",
            metavar="SHARE",
            min=0,
            max=1,
            help="Minimum share of each image that the object covers.",
            rich_help_panel=LIMITS,
        ),
    ] = DEFAULTS.min_coverage,
    max_cut_off: Annotated[
        float | None,
        typer.Option(
            "--max-cut-off",
            metavar="SHARE",
            min=0,
            max=1,
            help="Maximum share of images in which the object reaches the border.",
            rich_help_panel=LIMITS,
        ),
    ] = DEFAULTS.max_cut_off,
    min_sharpness: Annotated[
        float | None,
        typer.Option(
            "--min-sharpness",
            metavar="SCORE",
            min=0,
            max=1,
            help="Minimum sharpness of the sharpest regions; lower means blurry.",
            rich_help_panel=LIMITS,
        ),
    ] = DEFAULTS.min_sharpness,
    max_clutter: Annotated[
        float | None,
        typer.Option(
            "--max-clutter",
            metavar="SCORE",
            min=0,
            max=1,
            help="Maximum amount of fine detail overall; higher means cluttered.",
            rich_help_panel=LIMITS,
        ),
    ] = DEFAULTS.max_clutter,
    max_grain: Annotated[
        float | None,
        typer.Option(
            "--max-grain",
            metavar="SCORE",
            min=0,
            max=1,
            help="Maximum image noise.",
            rich_help_panel=LIMITS,
        ),
    ] = DEFAULTS.max_grain,
    duplicates: Annotated[
        bool,
        typer.Option(
            "--duplicates/--no-duplicates",
            help="Remove near-duplicates.",
            rich_help_panel=LIMITS,
        ),
    ] = True,
    duplicate_distance: Annotated[
        int | None,
        typer.Option(
            "--duplicate-distance",
            metavar="BITS",
            min=0,
            help="Maximum Hamming distance between near-duplicates, of 1056 bits.",
            rich_help_panel=LIMITS,
        ),
    ] = DEFAULTS.duplicate_distance,
    lpips: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--lpips",
            metavar="VGG HEADS",
            help="Measure LPIPS to a quarter of the resolution, with torchvision's vgg16 weights "
            "and LPIPS 0.1's vgg.pth.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    min_lpips: Annotated[
        float | None,
        typer.Option(
            "--min-lpips",
            metavar="DISTANCE",
            min=0,
            help="Minimum LPIPS; lower means no detail. Needs --lpips.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    max_lpips: Annotated[
        float | None,
        typer.Option(
            "--max-lpips",
            metavar="DISTANCE",
            min=0,
            help="Maximum LPIPS; higher means cluttered. Needs --lpips.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    raft: Annotated[
        Path | None,
        typer.Option(
            "--raft",
            metavar="FILE",
            help="Estimate optical flow with RAFT, with torchvision's raft_large weights.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(
            "--llm",
            metavar="MODEL",
            help="Image-text model that judges whether objects are complete: a folder, a name on "
            "the Hugging Face Hub, or the model name on the server of --llm-url.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    llm_url: Annotated[
        str | None,
        typer.Option(
            "--llm-url",
            metavar="URL",
            help="URL of an OpenAI-compatible server of the model, such as "
            "http://localhost:8000/v1; the key is read from OPENAI_API_KEY.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    llm_download: Annotated[
        bool,
        typer.Option(
            "--llm-download",
            help="Download the model of --llm if it is not on this machine.",
            rich_help_panel=MEASURES,
        ),
    ] = False,
    device: DeviceOption = Device.auto,
    workers: WorkersOption = None,
    ray: RayOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Select the rendered grids that are fit for training: sharp, moving, complete, deduplicated.

    The report contains kept.txt (input of `fourdvd data pack`), scores.jsonl, filter.json,
    report.html and contact sheets; the grids are not changed. Scores of an earlier report are
    reused if grids and measures are the same, so that --overwrite with other limits is quick.
    """
    console.configure(quiet, verbose)
    if llm_url is not None and llm is None:
        raise typer.BadParameter("needs --llm", param_hint="--llm-url")
    if lpips is None and not (min_lpips is max_lpips is None):
        raise typer.BadParameter("need --lpips", param_hint="--min-lpips, --max-lpips")
    from generation.curation.filters.filtering import FilterJob, check_report_folder
    from generation.curation.filters.filtering import filter_grids as run_filters
    from generation.curation.filters.judges import load_judge
    from generation.curation.filters.scoring import ScoringSettings
    from generation.curation.jobs import Resources, make_executor
    from recon.devices import usable_cores

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
    job = FilterJob(folder, output, ScoringSettings(lpips, raft), thresholds, overwrite=overwrite)
    check_report_folder(job)
    job = replace(job, judge=load_judge(llm, llm_url, device.value, llm_download))
    executor = make_executor(ray, workers or usable_cores(), Resources())
    with console.progress("filtering", quiet) as report:
        summary = run_filters(
            job, executor, lambda state: report(state.step, state.steps, state.phase)
        )
    console.say(f"wrote {job.report}: {_counts(summary)}")
    if json:
        console.print_json({"report": str(job.report), **asdict(summary)})


def _counts(summary: Summary) -> str:
    lines = [f"{summary.kept} of {summary.grids} grids kept"]
    lines += [f"  {count:5d} {reason}" for reason, count in summary.reasons.items()]
    if summary.judged:
        lines.append(f"  {summary.undecided:5d} of {summary.judged} answers without a verdict")
    return "\n".join(lines)
