"""The chain of `fourdvd run`: video → grid → scene → export in one folder, resumable.

    OUT/grid      the generated grid, or the input grid as a folder of this project
    OUT/scene     the fitted scene
    OUT/export    one folder per format
    OUT/run.json  input, settings and finished steps

Each step is complete or absent, and `run.json` is written after each of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fourdvd_cli import __version__, console, generating, interrupts
from fourdvd_cli.commands.export import export_with_progress
from fourdvd_cli.commands.reconstruct import reconstruct_with_progress
from generation.pipelines import open_pipeline
from generation.settings import GenerateSettings
from recon.errors import InputError, OutputExistsError
from recon.exporters import html
from recon.exporters.options import ExportOptions
from recon.grid import Splits, read_splits
from recon.grid.writing import write_posed_images, write_previews
from recon.output import check_output, output_folder, write_json

FORMAT = "fourdvd-run"
VERSION = 1
RECORD = "run.json"
TEST_IMAGES = "test_images/c{view:02d}/t{frame:03d}.png"


@dataclass
class Run:
    """Content of `run.json`, whose keys are the names of the fields.

    Attributes:
        input: absolute path of the input.
        settings: settings of the fit.
        generation: settings of the generation; None if the input is a grid.
        reading: how the input is read, if it is a grid.
        formats: exported formats.
        stages: names of the finished steps: "grid", "scene", "export".
    """

    input: str
    settings: dict[str, Any]
    generation: dict[str, Any] | None = None
    reading: dict[str, Any] = field(default_factory=dict)
    formats: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)


def run_chain(
    source: Path,
    folder: Path,
    formats: Sequence[str],
    settings: dict[str, Any],
    generation: GenerateSettings | None,
    *,
    weights_folder: Path | None = None,
    up: str = "auto",
    skip_missing: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Turn a video or a grid into a scene and exported files, or resume an earlier run.

    Args:
        source: video, GIF, folder of frames, grid folder or its transforms JSON.
        folder: folder of the results; a run of the same input and settings in it is resumed.
        formats: keys of `recon.exporters.exporters`; formats that are already exported are kept.
        settings: further arguments of `recon.reconstruct`.
        generation: settings of the generation; None if the input is a grid.
        weights_folder: folder that is searched first for weights.
        up: see `recon.grid.read_grid`.
        skip_missing: see `recon.grid.read_grid`.
        overwrite: start again and replace the results of an earlier run.
        quiet: show no progress.

    Raises:
        OutputExistsError: the folder contains anything else, and `overwrite` is False.
        FourdvdError: as in the library calls of the steps.
    """
    reading = {} if generation else {"up": up, "skip_missing": skip_missing}
    run = _begin(source, folder, settings, generation, reading, overwrite)
    # The folder belongs to this run. The result of a step that is not recorded as finished is a
    # leftover of an older run, or was written just before this one was stopped: it is replaced.
    if "grid" not in run.stages:
        if generation is not None:
            with interrupts.stop_request() as should_stop:
                clip, _ = generating.prepare(source, generation)
                pipeline = open_pipeline(generation, weights_folder, keep_networks=False)
                # not earlier: an invalid input or missing weights leave no folder
                _write(run, folder)
                generating.generate(
                    pipeline, clip, folder / "grid", should_stop, overwrite=True, quiet=quiet
                )
        else:
            splits = read_splits(source, up=up, skip_missing=skip_missing)
            _write(run, folder)  # not earlier, for the same reason
            _write_splits(splits, folder / "grid")
        _finish(run, "grid", folder)
    if "scene" not in run.stages:
        reconstruct_with_progress(
            folder / "grid", folder / "scene", settings, overwrite=True, quiet=quiet
        )
        _finish(run, "scene", folder)
    for name in dict.fromkeys(formats):
        if name not in run.formats:
            export_with_progress(
                folder / "scene",
                folder / "export",
                [name],
                ExportOptions(),
                device=settings["device"],
                overwrite=True,
                quiet=quiet,
            )
            run.formats.append(name)
            _finish(run, "export", folder)
    console.say(f"{folder} is complete: {', '.join(run.formats)}")
    if "html" in run.formats:
        page = folder / "export" / "html" / html.FILE
        console.say(f"open {page} in a browser to look at it")


def _write_splits(splits: Splits, folder: Path) -> None:
    with output_folder(folder, overwrite=True) as partial:
        write_posed_images(splits.train, partial)
        write_previews(splits.train, partial)
        if splits.test is not None:
            write_posed_images(splits.test, partial, "transforms_test.json", TEST_IMAGES)


def _begin(
    source: Path,
    folder: Path,
    settings: dict[str, Any],
    generation: GenerateSettings | None,
    reading: dict[str, Any],
    overwrite: bool,
) -> Run:
    """Return the run to resume, or a new one that is not written yet."""
    chosen = None if generation is None else {"model": generation.model, "steps": generation.steps}
    wanted = Run(str(source.resolve()), settings, chosen, reading)
    record = folder / RECORD
    if record.is_file() and not overwrite:
        found = _read(record)
        if replace(found, formats=[], stages=[]) != wanted:
            raise OutputExistsError(
                folder,
                f"it contains a run of {found.input} with "
                f"{_listed(found.settings | (found.generation or {}) | found.reading)}; "
                "choose another folder, or pass --overwrite to start again",
            )
        return found
    check_output(folder, overwrite)
    return wanted


def _finish(run: Run, step: str, folder: Path) -> None:
    run.stages = [name for name in run.stages if name != step] + [step]
    _write(run, folder)


def _write(run: Run, folder: Path) -> None:
    head = {"format": FORMAT, "version": VERSION, "fourdvd": __version__}
    write_json(folder / RECORD, head | asdict(run))


def _read(path: Path) -> Run:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if (values["format"], values["version"]) != (FORMAT, VERSION):
            raise ValueError(f"found format {values['format']!r} version {values['version']!r}")
        names = ("input", "settings", "formats", "stages")
        optional = {"generation": values.get("generation"), "reading": values.get("reading", {})}
        return Run(**optional, **{name: values[name] for name in names})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"expected the record of an earlier run ({error!r}); choose another folder or pass "
            "--overwrite",
            path,
        ) from error


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
