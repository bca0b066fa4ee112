"""`fourdvd run`: video to exported files in one command."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fourdvd_cli import console
from fourdvd_cli.help import MACHINE, OUTPUT
from fourdvd_cli.options import (
    Device,
    DeviceOption,
    Format,
    JsonOption,
    LowMemoryOption,
    Model,
    ModelOption,
    MotionOption,
    OverwriteOption,
    Quality,
    QualityOption,
    QuietOption,
    RayOption,
    RecenterOption,
    SeedOption,
    ShDegreeOption,
    SkipMissingOption,
    SourceFpsOption,
    StepsOption,
    Up,
    UpOption,
    VerboseOption,
    WeightsOption,
    WorkersOption,
    check_inputs,
    one_of,
    refuse_unused,
    usage,
)

if TYPE_CHECKING:
    from fourdvd_cli.commands.run_batch import InputResult


def run(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Video, GIF, image or folder of frames of one object; or a grid folder, or its "
            "transforms JSON.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Folder for the results: grid, scene, export; of several inputs, one subfolder "
            "each.",
            rich_help_panel=OUTPUT,
        ),
    ],
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help=f"{one_of(Format)}; may be repeated. html is a page that plays the scene.",
            show_default="html, ply and glb",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    model: ModelOption = Model.auto,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    weights: WeightsOption = None,
    quality: QualityOption = Quality.standard,
    motion: MotionOption = None,
    sh_degree: ShDegreeOption = 0,
    source_fps: SourceFpsOption = None,
    recenter: RecenterOption = False,
    up: UpOption = Up.auto,
    skip_missing: SkipMissingOption = False,
    device: DeviceOption = Device.auto,
    low_memory: LowMemoryOption = False,
    workers: WorkersOption = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            metavar="N",
            min=1,
            help="Cores per input, if there are several.",
            show_default="cores divided by workers; 1 with --ray",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    ray: RayOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Turn a video into a 4D asset: generate, reconstruct and export in one folder.

    If INPUT is a grid, generate is skipped. Run the command again with the same OUT to resume it,
    or to add formats. For more options, such as the part of the video to use, run the three
    commands one by one.

    Several inputs, or one with --workers, --threads or --ray, run in parallel, each in OUT/NAME;
    OUT/manifest.jsonl records the result of each. An input that fails does not stop the others.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli import generating
    from fourdvd_cli.commands.run_input import RECORD
    from generation.clip.reading import FrameSelection, is_clip

    is_batch = len(sources) > 1 or (workers, threads, ray) != (None, None, None)
    if not is_batch and not (output / RECORD).is_file():  # a run goes on without its grid
        check_inputs(sources[0])
    has_clips = any(is_clip(source) for source in sources)
    options: dict[str, Any] = {"steps": steps, "seed": seed, "low_memory": low_memory}
    if has_clips:
        with usage():
            generating.check_settings(model, **options)
            FrameSelection(source_fps=source_fps)
    elif all(source.exists() for source in sources):
        of_videos = {
            "--source-fps": source_fps is not None,
            "--recenter": recenter,
            "--model": model is not Model.auto,
            "--steps": steps is not None,
            "--weights": weights is not None,
        }
        refuse_unused(of_videos, "it is for videos, and INPUT is a grid")
    from fourdvd_cli.commands.run_chain import ChainSettings, run_chain, run_json
    from generation.settings import GenerateSettings
    from recon.devices import resolve_device, resolve_network_device
    from recon.errors import Interrupted

    generation, why = None, None
    if has_clips:
        on_device = _on_workers(device, ray) or resolve_network_device(device.value)
        name, why = generating.chosen_model(model, on_device, weights)
        with usage():
            generation = GenerateSettings(name, device=on_device, **options)
    fit = {
        "quality": quality.value,
        "motion": motion and motion.value,
        "device": device.value,
        "seed": seed,
        "sh_degree": sh_degree,
    }
    if is_batch:  # workers share the GPUs, so that "auto" must be the same for all
        fit["device"] = _on_workers(device, ray) or resolve_device(device.value)
    names = tuple(name.value for name in formats or (Format.html, Format.ply, Format.glb))
    folder = weights and weights.absolute()
    identity = None if generation is None else generating.weights_identity(generation, folder)
    settings = ChainSettings(
        names, fit, generation, folder, source_fps, recenter, up.value, skip_missing, why, identity
    )
    if not is_batch:
        try:
            done = run_chain(sources[0], output, settings, overwrite=overwrite, quiet=quiet)
        except KeyboardInterrupt as error:
            if not (output / RECORD).is_file():
                raise  # nothing to resume
            raise Interrupted(f"stopped; finished steps are in {output}") from error
        if json:
            console.print_json(run_json(done, output))
        return
    from fourdvd_cli.commands.run_batch import MANIFEST, RunBatch

    batch = RunBatch(output, settings, workers, threads, ray, overwrite)
    with console.parts("inputs", quiet) as shown:
        try:
            on_progress = shown.show if shown.is_shown else None
            typed = {str(source.resolve()): str(source) for source in sources}
            result = batch.run(sources, partial(_show_result, shown, typed), on_progress)
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"stopped; finished inputs and steps, and the last states of fits, are in {output}"
            ) from error
    console.say(f"{output}: {console.counted(result.counts, result.from_before)}")
    if result.warnings:
        total, warned = sum(result.warnings.values()), len(result.warnings)
        console.say(f"warnings: {total} about {warned} of the inputs, see {output / MANIFEST}")
    result.require_finished()
    if json:
        console.print_json(result.to_json())


def _show_result(shown: console.Parts, typed: Mapping[str, str], result: InputResult) -> None:
    """Print the result of one of several inputs and what is doubtful about it.

    Args:
        shown: progress of the batch.
        typed: the inputs as the user wrote them, by their absolute paths.
        result: the result.
    """
    row, place = result.row, f"{result.number}/{result.total}"
    source = typed[row.input]
    shown.end(row.name)
    shown.count(result.number, result.total)
    seconds = "by an earlier command" if result.from_before else f"{row.seconds:.1f} s"
    if row.reason is not None:
        console.show_refused(f"{place} {row.status}", source, f"{row.reason} ({seconds})")
    elif not result.from_before:
        console.say(f"{place} {row.status}: {source} ({seconds})")
    for warning in result.warnings:
        console.warn(f"{row.name}: {warning}")


def _on_workers(device: Device, ray: str | None) -> str | None:
    """Return the device that a cluster's machines must have, whatever this machine has."""
    return None if ray is None or device is Device.auto else device.value
