"""One table of methods × objects: every run evaluated, means with intervals, published rows beside.

    metrics = ["psnr", "ssim", "iou", "sharpness"]
    resize = "box"                      # optional
    published = "consistent4d-4d"       # optional

    [objects]                           # ground truths; paths are relative to the file
    fox = "truth/fox"

    [methods.lift]                      # {object} stands for the name of the object
    path = "runs/lift/{object}"
    seed = 0                            # optional, and so are axes, scale, align and mosaic

Metrics that are a distance of sets of videos (`--fvd set`) take the videos of all objects together
and so have one value for each method.
Letters: n objects.
"""

from __future__ import annotations

import csv
import io
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from recon.errors import InputError
from recon.evaluation.evaluating import FILTERS, evaluate
from recon.evaluation.pooling import CollectedVideos, metrics_of_sets, pooled_distance
from recon.evaluation.published import PUBLISHED, PUBLISHED_OBJECTS, PublishedRow
from recon.evaluation.results import Evaluation
from recon.grid.mosaic import Mosaic, parse_mosaic
from recon.metrics.catalog import METRICS, check_names, default_names
from recon.metrics.interface import Metric, VideoMetric
from recon.progress import OnStep, Progress, ignore_progress

CONFIDENCE = 0.95
METHOD_KEYS: dict[str, tuple[tuple[type, ...], str]] = {
    "path": ((str,), "a path"),
    "seed": ((int,), "a whole number"),
    "axes": ((str,), "the name of axes"),
    "scale": ((int, float), "a number above 0"),
    "align": ((bool,), "true or false"),
    "mosaic": ((str,), "rows and columns"),
}
"""Types of the keys of a method, and what they are for messages."""


class Method(NamedTuple):
    """What is evaluated.

    Attributes:
        name: its name.
        path: path of its results, in which {object} stands for the name of an object.
        seed: seed of its results; None if it has none.
        axes: see `recon.evaluation.evaluate`, as all of the following.
        scale: scale of PLY files and meshes.
        align: whether PLY files and meshes are aligned with the truth.
        mosaic: views in each video.
    """

    name: str
    path: str
    seed: int | None
    axes: str | None = None
    scale: float = 1.0
    align: bool = False
    mosaic: Mosaic | None = None


class Runs(NamedTuple):
    """Content of a file of runs.

    Attributes:
        metrics: names of the metrics.
        objects: ground truths by the name of the object.
        methods: methods, at least one.
        resize: see `recon.evaluation.evaluate`.
        published: key of `PUBLISHED`; None: no published rows.
        folder: folder to which paths are relative.
    """

    metrics: tuple[str, ...]
    objects: Mapping[str, str]
    methods: tuple[Method, ...]
    resize: str | None
    published: str | None
    folder: Path


class Mean(NamedTuple):
    """Mean over objects, or the distance of the videos of all objects together.

    Attributes:
        value: the mean or the distance.
        half_width: half of the 95 % interval of the mean by Student's t; None for one object and
            for a distance.
        n: number of objects with a value.
        videos: number of videos of each side of a distance; None for a mean.
    """

    value: float
    half_width: float | None
    n: int
    videos: int | None = None


@dataclass(frozen=True)
class Table:
    """Evaluations of all methods and objects.

    Attributes:
        runs: what was evaluated.
        evaluations: by name of the method and of the object.
        distances: of the videos of all objects together, by name of the method and of the metric.
        failures: why an object has no evaluation, by name of the method and of the object.
    """

    runs: Runs
    evaluations: Mapping[str, Mapping[str, Evaluation]]
    distances: Mapping[str, Mapping[str, Mean]] = field(default_factory=dict)
    failures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def require_complete(self) -> None:
        """Raise an error if an object could not be evaluated.

        Raises:
            InputError: the message names all of them.
        """
        failed = [f"{method}, {name}" for method, name, _ in self.failed()]
        if failed:
            total = len(self.runs.methods) * len(self.runs.objects)
            raise InputError(
                f"{len(failed)} of {total} could not be evaluated: {'; '.join(failed)}"
            )

    def failed(self) -> list[tuple[str, str, str]]:
        """Return method, object and reason of each failure."""
        each = self.failures.items()
        return [(method, *pair) for method, found in each for pair in found.items()]

    def mean(self, method: str, metric: str) -> Mean | None:
        """Return the mean of a metric over objects, or its distance; None if it has no value."""
        if metric in self.distances.get(method, {}):
            return self.distances[method][metric]
        found = [each.mean(metric) for each in self.evaluations[method].values()]
        return mean_over_objects([value for value in found if value is not None])

    def frames(self, method: str) -> list[int]:
        """Return the numbers of frames that were compared, of all objects, ascending."""
        each = self.evaluations[method].values()
        return sorted({len({image.frame for image in found.images}) for found in each})

    def to_markdown(self) -> str:
        """Return means, with intervals where there are several objects, and published rows."""
        names = self.runs.metrics
        header = ["method", "objects", "frames", *(METRICS[name].arrow for name in names)]
        rows = [self._row(method) for method in self.runs.methods]
        rows += [_published_row(row, names) for row in self._published()]
        rule = ["---", *["---:"] * (len(header) - 1)]
        lines = [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
        remarks = self._remarks()
        return "\n".join([*lines, *([""] if remarks else []), *remarks]) + "\n"

    def to_csv(self) -> str:
        """Return one line for each method and object, and for each published row.

        Values of an object that could not be evaluated are empty. A method with distances over all
        objects has a further line, whose object is "all".
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = self.runs.metrics
        writer.writerow(["method", "object", "seed", "frames", "published", *names])
        for method in self.runs.methods:
            for name, found in self.evaluations[method.name].items():
                frames = len({image.frame for image in found.images})
                values = [_plain(found.mean(metric)) for metric in self.runs.metrics]
                writer.writerow([method.name, name, _plain(method.seed), frames, "", *values])
            for name in self.failures.get(method.name, ()):
                empty = [""] * (2 + len(names))
                writer.writerow([method.name, name, _plain(method.seed), *empty])
            if distances := self.distances.get(method.name):
                cells = [_plain(distances[m].value if m in distances else None) for m in names]
                writer.writerow([method.name, "all", _plain(method.seed), "", "", *cells])
        for row in self._published():
            values = [_plain(row.values.get(metric)) for metric in self.runs.metrics]
            writer.writerow([row.method, "mean", "", _plain(row.frames), row.source, *values])
        return text.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Return everything, with the settings and hashes of weights of each evaluation."""
        return {
            "metrics": list(self.runs.metrics),
            "resize": self.runs.resize,
            "confidence": CONFIDENCE,
            "methods": [
                {
                    "name": method.name,
                    "seed": method.seed,
                    "frames": self.frames(method.name),
                    "means": {
                        metric: None if mean is None else mean._asdict()
                        for metric in self.runs.metrics
                        for mean in [self.mean(method.name, metric)]
                    },
                    "objects": {
                        name: found.to_json()
                        for name, found in self.evaluations[method.name].items()
                    },
                    "failures": dict(self.failures.get(method.name, {})),
                }
                for method in self.runs.methods
            ],
            "published": [
                {**row._asdict(), "values": dict(row.values)} for row in self._published()
            ],
        }

    def _published(self) -> Sequence[PublishedRow]:
        return PUBLISHED[self.runs.published] if self.runs.published else ()

    def _row(self, method: Method) -> list[str]:
        means = [(name, self.mean(method.name, name)) for name in self.runs.metrics]
        counts = self.frames(method.name)
        frames = "–".join(map(str, dict.fromkeys([*counts[:1], *counts[-1:]]))) or "–"
        cells = [_cell(mean, METRICS[name].digits) for name, mean in means]
        objects = str(len(self.evaluations[method.name]))
        if self.failures.get(method.name):
            objects += f" of {len(self.runs.objects)}"
        return [method.name, objects, frames, *cells]

    def _has_intervals(self) -> bool:
        pairs = ((each.name, name) for each in self.runs.methods for name in self.runs.metrics)
        means = (self.mean(method, metric) for method, metric in pairs)
        return any(mean is not None and mean.half_width is not None for mean in means)

    def _remarks(self) -> list[str]:
        seeds = [f"{each.name} {each.seed}" for each in self.runs.methods if each.seed is not None]
        remarks = []
        if self.failed():
            names = "; ".join(f"{method}, {name}" for method, name, _ in self.failed())
            remarks.append(f"Not evaluated: {names}.")
        if self._has_intervals():
            remarks.append("Means over objects ± half of their 95 % interval (Student's t).")
        if any(self.distances.values()):
            remarks.append(
                "Values with a number of videos: Fréchet distance of the videos of all objects "
                "together; biased upwards for few videos."
            )
        if seeds:
            remarks.append(f"Seeds: {', '.join(seeds)}.")
        if self.runs.resize:
            remarks.append(f"Images of another size were resized by Pillow, {self.runs.resize}.")
        hashes = {
            f"{file} {sha256[:12]}"
            for found in self.evaluations.values()
            for evaluation in found.values()
            for settings in evaluation.settings.values()
            for file, sha256 in settings.get("weights", {}).items()
        }
        if hashes:
            remarks.append(f"Weights (sha256): {', '.join(sorted(hashes))}.")
        if self.runs.published:
            remarks.append(
                "† published by its authors, not measured here; – frames are not stated."
            )
        return remarks


def read_runs(path: str | Path) -> Runs:
    """Read a file of runs; its format is in the docstring of this module.

    Raises:
        InputError: the file is not valid; the message names the key.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError.missing(path) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: expected a TOML file ({error})") from error
    known = {"metrics", "resize", "published", "objects", "methods"}
    if unknown := sorted(values.keys() - known):
        raise InputError(f"{path}: unknown key {unknown[0]!r}, expected {', '.join(sorted(known))}")
    metrics = values.get("metrics", list(default_names()))
    if not isinstance(metrics, list) or not all(isinstance(name, str) for name in metrics):
        raise InputError(f"{path}: expected `metrics` to be a list of names, found {metrics!r}")
    check_names(metrics)
    resize = _choice(values, "resize", FILTERS, path)
    published = _choice(values, "published", PUBLISHED, path)
    objects = _texts(values.get("objects"), "objects", path)
    methods = values.get("methods")
    if not isinstance(methods, dict) or not methods:
        raise InputError(f"{path}: expected at least one [methods.NAME]")
    read = tuple(_method(name, method, path) for name, method in methods.items())
    return Runs(tuple(metrics), objects, read, resize, published, path.parent)


def evaluate_table(
    runs: Runs,
    metrics: Sequence[str | Metric] | None = None,
    device: str = "auto",
    on_step: OnStep = ignore_progress,
    on_note: Callable[[str], None] = lambda note: None,
    on_warning: Callable[[str], None] = lambda warning: None,
) -> Table:
    """Evaluate all methods on all objects; one that cannot be evaluated does not stop the others.

    Args:
        runs: methods and objects.
        metrics: the metrics of `runs`, opened; None: by their names, which need no weights.
        device: device on which scenes are rendered.
        on_step: called after each run.
        on_note: called with method, object and each of the notes of the evaluation.
        on_warning: called with method, object and each of its warnings.

    Returns:
        The table, with the reasons for what is missing in its `failures`.

    Raises:
        InputError: a distance of sets of videos cannot be computed.
        WeightsError, BackendError: see `recon.evaluation.evaluate`.
    """
    found: dict[str, dict[str, Evaluation]] = {}
    failures: dict[str, dict[str, str]] = {}
    distances: dict[str, dict[str, Mean]] = {}
    total, done = len(runs.methods) * len(runs.objects), 0
    opened = list(metrics or runs.metrics)
    of_sets = metrics_of_sets(opened)
    collected = {each.name: CollectedVideos(each) for each in of_sets}
    used = [each if isinstance(each, str) else collected.get(each.name, each) for each in opened]
    for method in runs.methods:
        found[method.name], failures[method.name] = {}, {}
        for name, truth in runs.objects.items():
            path = runs.folder / method.path.replace("{object}", name)
            try:
                evaluation = evaluate(
                    path,
                    _relative(truth, runs.folder),
                    device,
                    metrics=used,
                    resize=runs.resize,
                    axes=method.axes,
                    scale=method.scale,
                    aligned=method.align,
                    mosaic=method.mosaic,
                )
                found[method.name][name] = evaluation
                for note in evaluation.notes:
                    on_note(f"{method.name}, {name}: {note}")
                for warning in evaluation.warnings:
                    on_warning(f"{method.name}, {name}: {warning}")
            except InputError as error:
                failures[method.name][name] = str(error)
            done += 1
            on_step(Progress(f"{method.name}, {name}", done, total))
        distances[method.name] = {
            each.name: _distance(each, method, found[method.name])
            for each in of_sets
            if found[method.name]
        }
    return Table(runs, found, distances, failures)


def _distance(metric: VideoMetric, method: Method, found: Mapping[str, Evaluation]) -> Mean:
    scores = [evaluation.videos[metric.name] for evaluation in found.values()]
    try:
        value, videos = pooled_distance(metric, scores)
    except InputError as error:
        raise InputError(f"{method.name}, {metric.name}: {error}") from error
    return Mean(value, None, len(scores), videos)


def mean_over_objects(values: Sequence[float]) -> Mean | None:
    """Return the mean of values with the 95 % interval of Student's t; None for no values."""
    if not values:
        return None
    n, value = len(values), float(np.mean(values))
    if n == 1:
        return Mean(value, None, 1)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return Mean(value, quantile * float(np.std(values, ddof=1)) / n**0.5, n)


def _relative(truth: str, folder: Path) -> str:
    prefix, colon, rest = truth.rpartition(":")
    return f"{prefix}{colon}{folder / rest}" if prefix == "consistent4d" else str(folder / truth)


def _choice(values: Mapping[str, Any], key: str, choices: Iterable[str], path: Path) -> str | None:
    found, names = values.get(key), list(choices)  # not a dict: the value may be a list
    if found is not None and found not in names:
        raise InputError(f"{path}: expected `{key}` among {', '.join(names)}, found {found!r}")
    return found


def _texts(values: Any, key: str, path: Path) -> dict[str, str]:
    if not isinstance(values, dict) or not values:
        raise InputError(f"{path}: expected names and paths under [{key}]")
    for name, value in values.items():
        if not isinstance(value, str):
            raise InputError(f"{path}: expected a path for {key}.{name}, found {value!r}")
    return values


def _method(name: str, values: Any, path: Path) -> Method:
    if not isinstance(values, dict) or not isinstance(values.get("path"), str):
        raise InputError(f"{path}: expected a path for methods.{name}")
    if unknown := sorted(values.keys() - METHOD_KEYS.keys()):
        raise InputError(f"{path}: unknown key {unknown[0]!r} of methods.{name}")
    for key, value in values.items():
        types, expected = METHOD_KEYS[key]
        if type(value) not in types or (key == "scale" and not 0 < value < math.inf):
            raise InputError(
                f"{path}: expected {expected} for methods.{name}.{key}, found {value!r}"
            )
    mosaic = values.get("mosaic")
    return Method(
        name, values["path"], values.get("seed"), values.get("axes"), values.get("scale", 1.0),
        values.get("align", False), None if mosaic is None else parse_mosaic(mosaic),
    )  # fmt: skip


def _cell(mean: Mean | None, digits: int) -> str:
    if mean is None:
        return "–"
    interval = "" if mean.half_width is None else f" ± {mean.half_width:.{digits}f}"
    videos = "" if mean.videos is None else f" ({mean.videos} videos)"
    return f"{mean.value:.{digits}f}{interval}{videos}"


def _published_row(row: PublishedRow, names: Sequence[str]) -> list[str]:
    values = [row.values.get(name) for name in names]
    cells = ["–" if value is None else f"{value:g}" for value in values]
    name, objects = f"{row.method} † ({row.source})", str(PUBLISHED_OBJECTS)
    return [name, objects, _plain(row.frames) or "–", *cells]


def _plain(value: float | None) -> str:
    return "" if value is None else repr(value)
