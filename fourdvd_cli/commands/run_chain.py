"""The chain of `fourdvd run`: video → grid → scene → export in one folder, resumable.

    OUT/grid      the generated grid, or the input grid as a folder of this project
    OUT/scene     the fitted scene
    OUT/export    one folder per format
    OUT/run.json  input, settings and finished steps

Each step is complete or absent, and `run.json` is written after each of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fourdvd_cli import __version__, console, generating, interrupts
from fourdvd_cli.commands.export import export_with_progress
from fourdvd_cli.commands.reconstruct import reconstruct_with_progress
from fourdvd_cli.commands.run_input import RECORD, input_digest, input_stamp
from fourdvd_cli.commands.run_manifest import MANIFEST
from fourdvd_cli.options import check_inputs
from generation.pipeline import Pipeline
from generation.pipelines import open_pipeline
from generation.settings import GenerateSettings
from recon.errors import InputError, OutputError, OutputExistsError
from recon.exporters import html
from recon.exporters.options import ExportOptions
from recon.grid import Splits, read_splits
from recon.grid.writing import write_posed_images, write_previews
from recon.output import check_output, output_folder, sole_writer, write_json
from recon.progress import ShouldStop

FORMAT = "fourdvd-run"
VERSION = 1
PROGRESS = ("formats", "stages", "seconds", "input_stamp", "input_sha256")  # of a record
TEST_IMAGES = "test_images/c{view:02d}/t{frame:03d}.png"


@dataclass(frozen=True)
class ChainSettings:
    """Settings of a run, whatever its input.

    Attributes:
        formats: keys of `recon.exporters.exporters`; formats that are already exported are kept.
        fit: further arguments of `recon.reconstruct`.
        generation: settings of the generation; None if the input is a grid.
        weights_folder: folder that is searched first for weights.
        source_fps: frames per second of a video; None: see `generation.load_clip`.
        recenter: whether the squares of a video follow the object, see `generation.load_clip`.
        up: see `recon.grid.read_grid`.
        skip_missing: see `recon.grid.read_grid`.
        why_model: line that says why the model of the generation was chosen, if it was not named.
        weights: identity of the weights, see `pipelines.weights_identity`; None: unknown.
    """

    formats: tuple[str, ...]
    fit: dict[str, Any]
    generation: GenerateSettings | None = None
    weights_folder: Path | None = None
    source_fps: float | None = None
    recenter: bool = False
    up: str = "auto"
    skip_missing: bool = False
    why_model: str | None = None
    weights: Mapping[str, int | str] | None = None

    @property
    def reading(self) -> dict[str, Any]:
        """How the input is read: what of the settings applies to a grid, or to a video."""
        if self.generation is None:
            return {"up": self.up, "skip_missing": self.skip_missing}
        rate = {} if self.source_fps is None else {"source_fps": self.source_fps}
        return rate | ({"recenter": True} if self.recenter else {})


OpenPipeline = Callable[[GenerateSettings, Path | None], Pipeline[Any]]


def open_once(settings: GenerateSettings, weights_folder: Path | None) -> Pipeline[Any]:
    """Open a pipeline whose networks leave memory before the fit."""
    return open_pipeline(settings, weights_folder, keep_networks=False)


@dataclass
class Run:
    """Content of `run.json`, whose keys are the names of the fields.

    Attributes:
        input: absolute path of the input.
        settings: settings of the fit.
        generation: settings of the generation; None if the input is a grid.
        reading: how the input is read.
        formats: exported formats.
        stages: names of the finished steps: "grid", "scene", "export".
        seconds: duration of each finished step, without interrupted attempts.
        input_stamp: see `run_input.input_stamp`.
        input_sha256: see `run_input.input_digest`; None in older records.
        weights: identity of the weights, see `pipelines.weights_identity`; None in older records,
            or if the input is a grid.
    """

    input: str
    settings: dict[str, Any]
    generation: dict[str, Any] | None = None
    reading: dict[str, Any] = field(default_factory=dict)
    formats: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    input_stamp: str | None = None
    input_sha256: str | None = None
    weights: Mapping[str, int | str] | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """All settings by name."""
        return self.settings | (self.generation or {}) | self.reading

    @property
    def asked_weights(self) -> dict[str, str]:
        """The weights, beginnings of sha256 or sizes, by "weights of NAME"."""
        return {f"weights of {name}": str(each)[:12] for name, each in (self.weights or {}).items()}


def run_chain(
    source: Path,
    folder: Path,
    settings: ChainSettings,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    open_networks: OpenPipeline = open_once,
    wait_s: float = 0.0,
    one_of_several: bool = False,
) -> Run:
    """Turn a video or a grid into a scene and exported files, or resume an earlier run.

    Args:
        source: video, GIF, folder of frames, grid folder or its transforms JSON.
        folder: folder of the results; a run of the same input and settings in it is resumed.
        settings: settings of all steps.
        overwrite: start again and replace the results of an earlier run.
        quiet: show no progress.
        open_networks: opens the pipeline of the generation.
        wait_s: how long to wait for another process that writes to the folder in seconds.
        one_of_several: whether `--overwrite` would start the runs of other inputs again, too, so
            that messages do not advise it for this one.

    Returns:
        The record of the finished run.

    Raises:
        OutputExistsError: the folder contains anything else, such as a run of the input before it
            was changed, and `overwrite` is False.
        OutputError: the folder has the runs of several inputs, or another process writes to it.
        KeyboardInterrupt: a signal came too late for a step to stop; the step is finished.
        FourdvdError: as in the library calls of the steps.
    """
    with sole_writer(folder, wait_s):
        run = _begin(source, folder, settings, overwrite)
        _check_unchanged(run, source, folder, one_of_several)
        # The folder belongs to this run. The result of a step that is not recorded as finished is a
        # leftover of an older run, or was written just before this one was stopped: it is replaced.
        # A signal after the last denoising step or iteration interrupts when that is recorded.
        if "grid" not in run.stages:
            if settings.generation is None:
                with _step(run, "grid", folder):
                    _copy_grid(run, source, folder, settings)
            else:
                with interrupts.stop_request() as should_stop, _step(run, "grid", folder):
                    _make_grid(run, source, folder, settings, open_networks, should_stop, quiet)
        if "scene" not in run.stages:
            with interrupts.stop_request() as should_stop, _step(run, "scene", folder):
                reconstruct_with_progress(
                    folder / "grid",
                    folder / "scene",
                    settings.fit,
                    should_stop,
                    overwrite=True,
                    quiet=quiet,
                )
        for name in dict.fromkeys(settings.formats):
            if name not in run.formats:
                with _step(run, "export", folder):
                    _export(name, folder, settings.fit["device"], quiet)
                    run.formats.append(name)
    console.say(f"{folder} is complete: {', '.join(run.formats)}")
    if "html" in run.formats:
        page = folder / "export" / "html" / html.FILE
        console.say(f"open {page} in a browser to look at it")
    return run


def run_json(run: Run, folder: Path) -> dict[str, Any]:
    """Return what `fourdvd run --json` prints of a finished run.

    Args:
        run: record of the run.
        folder: folder of its results.

    Returns:
        Input, folder and durations; under the name of each step the object that the command of that
        step prints with `--json`, or None: no grid was generated.
    """
    grid = folder / "grid" / "generate.json"
    return {
        "input": run.input,
        "folder": str(folder),
        "seconds": round(sum(run.seconds.values()), 3),
        "steps": run.seconds,
        "grid": _read_json(grid) if grid.is_file() else None,
        "scene": scene_metrics(folder),
        "export": _read_json(folder / "export" / "export.json"),
    }


def scene_metrics(folder: Path) -> dict[str, Any]:
    """Return the metrics of the scene of a finished run, without those of each image."""
    return _read_json(folder / "scene" / "scene.json")["metrics"]


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _copy_grid(run: Run, source: Path, folder: Path, settings: ChainSettings) -> None:
    check_inputs(source)
    splits = read_splits(source, **settings.reading)
    _write(run, folder)  # not earlier: an invalid input leaves no folder
    _write_splits(splits, folder / "grid")


def _make_grid(
    run: Run,
    source: Path,
    folder: Path,
    settings: ChainSettings,
    open_networks: OpenPipeline,
    should_stop: ShouldStop,
    quiet: bool,
) -> None:
    generation = settings.generation
    assert generation is not None
    clip, _ = generating.prepare(source, generation, settings.why_model, **settings.reading)
    pipeline = open_networks(generation, settings.weights_folder)
    _write(run, folder)  # not earlier: an invalid input or missing weights leave no folder
    generating.generate(pipeline, clip, folder / "grid", should_stop, overwrite=True, quiet=quiet)


def _export(name: str, folder: Path, device: str, quiet: bool) -> None:
    export_with_progress(
        folder / "scene",
        folder / "export",
        [name],
        ExportOptions(),
        device=device,
        overwrite=True,
        quiet=quiet,
    )


def _write_splits(splits: Splits, folder: Path) -> None:
    with output_folder(folder, overwrite=True) as partial:
        write_posed_images(splits.train, partial)
        write_previews(splits.train, partial)
        if splits.test is not None:
            write_posed_images(splits.test, partial, "transforms_test.json", TEST_IMAGES)


def check_run(source: Path, folder: Path, settings: ChainSettings, overwrite: bool) -> None:
    """Check, before long work, that a run may begin or continue in a folder.

    Raises:
        OutputExistsError, OutputError, InputError: see `run_chain`.
    """
    _begin(source, folder, settings, overwrite)


def _begin(source: Path, folder: Path, settings: ChainSettings, overwrite: bool) -> Run:
    """Return the run to resume, or a new one that is not written yet."""
    generation = settings.generation
    chosen = None if generation is None else {"model": generation.model, "steps": generation.steps}
    wanted = Run(
        str(source.resolve()), settings.fit, chosen, settings.reading, weights=settings.weights
    )
    record = folder / RECORD
    if record.is_file() and not overwrite:
        found = _read(record)
        unknown = ("weights",) if None in (found.weights, wanted.weights) else ()
        kept = {name: getattr(found, name) for name in (*PROGRESS, *unknown)}
        if replace(wanted, **kept) != found:
            check_inputs(source)
            raise _other_run(folder, found, wanted)
        if "grid" not in found.stages:  # it is going to be made with these
            found.weights = found.weights or wanted.weights
        return found
    if (folder / MANIFEST).is_file():
        raise OutputError(f"{folder} has the results of several inputs; choose another folder")
    check_output(folder, overwrite)
    return wanted


def _check_unchanged(run: Run, source: Path, folder: Path, one_of_several: bool) -> None:
    """Record the content of the input; raise an error if an earlier command found another one.

    A grid that is gone is not missed, because the run has a copy of it.
    """
    stamp = input_stamp(source, folder)
    if stamp is None or (stamp == run.input_stamp and run.input_sha256 is not None):
        return
    digest = input_digest(source, folder)
    if digest is not None and run.input_sha256 not in (None, digest):
        again = "delete this one" if one_of_several else "pass --overwrite"
        raise OutputExistsError(
            folder,
            f"choose another folder, or {again} to start again",
            state=f"contains a run of {run.input}, whose content has changed since then",
        )
    run.input_stamp, run.input_sha256 = stamp, digest


@contextmanager
def _step(run: Run, step: str, folder: Path) -> Iterator[None]:
    """Record a step as finished when the block ends without an exception."""
    began = time.monotonic()
    yield
    seconds = run.seconds.get(step, 0.0) if step in run.stages else 0.0
    run.seconds[step] = round(seconds + time.monotonic() - began, 3)
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
        later = {  # not in the first records
            "generation": None, "reading": {}, "seconds": {},
            "input_stamp": None, "input_sha256": None, "weights": None,
        }  # fmt: skip
        optional = {name: values.get(name, absent) for name, absent in later.items()}
        return Run(**optional, **{name: values[name] for name in names})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"expected the record of an earlier run ({error!r}); choose another folder or pass "
            "--overwrite",
            path,
        ) from error


def _other_run(folder: Path, found: Run, wanted: Run) -> OutputExistsError:
    """Return the error for a folder that has another run."""
    state = f"contains a run of {found.input}"
    if found.input != wanted.input:  # whose results --overwrite would discard
        return OutputExistsError(folder, "choose another folder", state=state)
    return OutputExistsError(
        folder,
        "choose another folder, or pass --overwrite to start again",
        state=state
        + (
            _changed(found.asked, wanted.asked)
            or _changed(found.asked_weights, wanted.asked_weights)
        ),
    )


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Describe the settings that changed, such as " with quality draft, not standard"."""
    changes = [
        f"{name.replace('_', '-')} {_shown(old.get(name))}, not {_shown(new.get(name))}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    return f" with {' and '.join(changes)}" if changes else ""


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)
