"""Terminal output of `generate` and `run`: cost, progress and the report of a dry run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourdvd_cli import console
from recon.errors import InputError

if TYPE_CHECKING:
    from fourdvd_cli.options import Model
    from generation import GenerateSettings, Pipeline, Plan, SquareClip
    from recon.progress import ShouldStop

GIB = 2**30


def chosen_model(model: Model, device: str, weights: Path | None) -> tuple[str, str | None]:
    """Return the name of a model in the libraries; of `auto`, also the line that says why."""
    if model.value != "auto":
        return model.key, None
    from generation.pipelines import choose_model

    chosen = choose_model(device, weights)
    return chosen.name, f"model {chosen.name}: {chosen.reason}"


def weights_identity(
    settings: GenerateSettings, weights: Path | None
) -> dict[str, int | str] | None:
    """Identify the weights of a model, see `pipelines.weights_identity`; None without them.

    Results that were made with weights that are gone are kept, and the generation of others says
    what is missing.
    """
    from generation.pipelines import weights_identity
    from recon.errors import WeightsError

    with contextlib.suppress(WeightsError):
        return weights_identity(settings, weights)
    return None


def check_settings(model: Model, **options: Any) -> None:
    """Check the options of a generation before the slow imports that its settings need.

    Args:
        model: the model; for `auto`, some model that it can be must accept the options.
        options: fields of `GenerateSettings`.

    Raises:
        InputError: see `GenerateSettings`.
    """
    from generation.settings import PREFERRED, GenerateSettings

    for name in PREFERRED if model.value == "auto" else ():
        with contextlib.suppress(InputError):
            GenerateSettings(name, **options)
            return
    GenerateSettings("lift" if model.value == "auto" else model.key, **options)


def prepare(
    video: Path, settings: GenerateSettings, why_model: str | None, **clip_options: Any
) -> tuple[SquareClip, Plan]:
    """Load and crop a clip, and plan the generation.

    Prints the line of `chosen_model`, if there is one, whether recentering has no effect, and the
    warnings about the clip; all only if the clip is valid.
    """
    from generation import load_clip
    from generation.pipelines import prepare

    square, plan = prepare(load_clip(video, **clip_options), settings)
    if why_model is not None:
        console.say(why_model)
    if clip_options.get("recenter") and len(square.images) == 1:
        console.say("--recenter has no effect on a single frame, in which nothing moves")
    for warning in square.warnings:
        console.warn(warning)
    return square, plan


def generate(
    pipeline: Pipeline[Any],
    clip: SquareClip,
    folder: Path,
    should_stop: ShouldStop,
    *,
    overwrite: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Print the estimated cost, then generate a grid folder with a progress bar.

    Returns:
        The content of `generate.json`.
    """
    if not quiet:
        show_cost(pipeline, clip)
    with console.steps("generating", quiet) as on_step:
        grid, made = pipeline.generate(
            clip,
            folder,
            overwrite=overwrite,
            on_step=on_step,
            should_stop=should_stop,
        )
    views, frames = console.numbered(grid.V, "view"), console.numbered(grid.T, "frame")
    console.say(f"wrote {folder}: {views} of {frames} of {grid.width}×{grid.height}")
    return made


def show_cost(pipeline: Pipeline[Any], clip: SquareClip) -> None:
    """Print the estimated time and memory, and a warning if the device has less memory."""
    import torch

    from generation.report import needed_memory

    settings, cost = pipeline.settings, pipeline.estimate(clip)
    memory = needed_memory(cost, settings.device)
    console.say(f"about {_duration(cost.seconds)} and {_memory(memory)} on {settings.device}")
    if settings.device == "cuda" and memory > (free := torch.cuda.mem_get_info()[0]):
        advice = "a smaller --size" if settings.low_memory else "--low-memory"
        console.warn(f"only {free / GIB:.0f} GiB of GPU memory are free; try {advice}")


def dry_run_lines(report: dict[str, Any]) -> list[str]:
    """Format the report of a dry run for reading."""
    crop = report["crop"]
    row, column = crop["centres"][0]
    mask = "alpha of the input" if report["alpha_known"] else "cut out of the uniform background"
    preview = report["preview"] or "pass -o GRID to write one"
    lines = [
        f"model      {report['model']}: {report['views']} views "
        f"({', '.join(f'{azimuth:g}°' for azimuth in report['azimuths_deg'])}), "
        f"elevation {report['elevation_deg']:g}°",
        f"frames     {report['frames']} of {report['size']}², {report['fps']:.3g} per second "
        f"(source frames {_ranges(report['source_frames'])})",
        f"crop       {crop['side']} px, centered at column {column:.0f}, row {row:.0f}",
        f"mask       {mask}; preview: {preview}",
    ]
    if "steps" in report:
        lines.append(f"steps      {report['steps']} in {len(report['passes'])} windows")
        if report["grids"] != [report["size"]]:
            grids = " and of ".join(f"{side}²" for side in report["grids"])
            lines[-1] += f" for each grid, of {grids}"
    for device, cost in report["estimate"].items():
        seconds = cost["seconds"]
        time = "time unknown here" if seconds is None else f"about {_duration(seconds)}"
        lines.append(f"{device:10} {_memory(cost['memory_bytes'])}, {_work(cost['flops'])}, {time}")
    disk = next(iter(report["estimate"].values()))["disk_bytes"]
    lines.append(f"disk       {disk / 1e6:.0f} MB")
    for name, path in report["weights"].items():
        lines.append(f"weights    {name}: {'missing' if path is None else path}")
    return lines


def _ranges(numbers: list[int]) -> str:
    return f"{numbers[0]}–{numbers[-1]}"


def _memory(count: int) -> str:
    return f"{count / 2**20:.0f} MiB" if count < GIB else f"{count / GIB:.1f} GiB"


def _work(flops: int) -> str:
    return f"{flops / 1e12:.2g} TFLOP" if flops < 1e14 else f"{flops / 1e15:.1f} PFLOP"


def _duration(seconds: float) -> str:
    if seconds != seconds:
        return "?"
    if seconds < 60:
        return f"{round(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{rest:02d} min"
