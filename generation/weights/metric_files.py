"""Weights of the metrics with networks: finding, checking and downloading them.

They are searched in --weights DIR, FOURDVD_WEIGHTS, torch's cache (TORCH_HOME) and the Hugging Face
cache; a file of the same stem with the suffix .safetensors is read, too. `.pth` files are read with
torch's restricted unpickler and only if their content is the published one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

from generation.weights.hub import CountedFile, silent_hub
from generation.weights.metric_catalogue import (
    CLIP_COMMIT,
    MetricFile,
    MetricModel,
    metric_models,
)
from generation.weights.store import FOLDER_VARIABLE, search_folders
from generation.weights.verify import file_sha256
from recon.errors import WeightsError
from recon.progress import OnStep, ignore_progress


class FoundFile(NamedTuple):
    """A file of weights on this machine.

    Attributes:
        path: where it is.
        sha256: of its content.
        published: whether its content is the published one; a safetensors file never is.
    """

    path: Path
    sha256: str
    published: bool


class MetricCheck(NamedTuple):
    """Result of verifying the weights of one metric on this machine.

    Attributes:
        model: its files.
        files: what was found; empty if the weights are missing or not the published ones.
        error: the error; None if they are valid.
    """

    model: MetricModel
    files: tuple[FoundFile, ...]
    error: WeightsError | None


def find_metric_files(model: MetricModel, folder: str | Path | None = None) -> list[Path]:
    """Find the files of a metric.

    Args:
        model: its files.
        folder: folder to search first.

    Raises:
        WeightsError: one is missing, or `folder` is not a folder; the hint has the command.
    """
    folders = [*search_folders(folder), torch_cache()]
    return [_find(file, folders, model) for file in model.files]


def list_metric_files(folder: str | Path | None = None) -> dict[MetricModel, list[Path]]:
    """List the weights of all metrics, each with the paths of its files; none if one is missing.

    Raises:
        WeightsError: `folder` is not a folder.
    """
    search_folders(folder)
    found = {}
    for model in metric_models.values():
        try:
            found[model] = find_metric_files(model, folder)
        except WeightsError:
            found[model] = []
    return found


def check_metric_files(model: MetricModel, folder: str | Path | None = None) -> list[FoundFile]:
    """Find the files of a metric and check that their content is the published one.

    Returns:
        The files in the order of the model; those in safetensors are taken as they are.

    Raises:
        WeightsError: a file is missing, or has other content.
    """
    return [
        check_file(path, file, model)
        for path, file in zip(find_metric_files(model, folder), model.files, strict=True)
    ]


def verify_metrics(
    models: Sequence[MetricModel] = (),
    folder: str | Path | None = None,
    file: str | Path | None = None,
) -> list[MetricCheck]:
    """Verify the weights of metrics on this machine.

    Args:
        models: metrics to verify; empty for all whose files are found.
        folder: folder to search first.
        file: file to verify in place of searching; for a metric with a single file.

    Raises:
        WeightsError: `folder` is not a folder.
    """
    here = list_metric_files(folder)
    named = models or [model for model, paths in here.items() if paths]
    return [_verified(model, folder, file) for model in dict.fromkeys(named)]


def _verified(
    model: MetricModel, folder: str | Path | None, file: str | Path | None
) -> MetricCheck:
    try:
        if file is None:
            return MetricCheck(model, tuple(check_metric_files(model, folder)), None)
        if len(model.files) != 1 or not Path(file).is_file():
            raise WeightsError(
                f"{file}: expected the only weights file of a metric; {model.name} has "
                f"{len(model.files)}, name their folder with --weights"
            )
        return MetricCheck(model, (check_file(Path(file), model.files[0], model),), None)
    except WeightsError as error:
        return MetricCheck(model, (), error)


def check_file(path: Path, file: MetricFile, model: MetricModel) -> FoundFile:
    """Compare the content of a file with the published one, see `check_metric_files`."""
    sha256 = file_sha256(path)
    if path.suffix == ".safetensors":
        return FoundFile(path, sha256, published=False)
    intact = sha256 == file.sha256 if file.sha256 else git_blob(path) == file.git_blob
    if not intact:
        raise WeightsError(
            f"{path}: the content is not that of the published {file.name}; the file is damaged or "
            "another one",
            hint=f"move it away, then run {model.fetch_command}",
        )
    return FoundFile(path, sha256, published=True)


def fetch_metric_files(
    model: MetricModel, folder: str | Path | None = None, on_step: OnStep = ignore_progress
) -> list[Path]:
    """Download the weights of a metric, unless they are here; unfinished downloads are resumed.

    Args:
        model: its files.
        folder: target folder; None for the one in `FOURDVD_WEIGHTS`, else torch's cache.
        on_step: called for each downloaded megabyte of a file.

    Returns:
        Paths of the checked files.

    Raises:
        WeightsError: a file cannot be downloaded, or is not the published one.
        OSError: the disk is full or not writable.
    """
    target = Path(folder or os.environ.get(FOLDER_VARIABLE) or torch_cache())
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for file in model.files:
        try:
            path = _find(file, [target], model)
        except WeightsError:
            path = _download(file, target, model, on_step)
        paths.append(check_file(path, file, model).path)
    return paths


def torch_cache() -> Path:
    """Return the folder in which torch keeps downloaded weights."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("TORCH_HOME") or cache / "torch") / "hub" / "checkpoints"


def git_blob(path: Path) -> str:
    """Compute git's identifier of the content of a file."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _find(file: MetricFile, folders: list[Path], model: MetricModel) -> Path:
    for place in folders:
        for path in (place / file.name, (place / file.name).with_suffix(".safetensors")):
            if path.is_file():
                return path
    if file.cached_as and (path := _in_hub_cache(*file.cached_as)):
        return path
    size = f", {file.size_bytes / 1e6:,.0f} MB" if file.size_bytes else ""
    raise WeightsError(
        f"the metric {model.name} needs the weights {file.name}; found none in "
        f"{', nor in '.join(map(str, folders))}",
        hint=f"{model.fetch_command} downloads them ({model.license}{size}); --weights DIR names a "
        "folder that has them",
    )


def _in_hub_cache(repository: str, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, name, revision=CLIP_COMMIT)
    return Path(found) if isinstance(found, str) else None


def _download(file: MetricFile, folder: Path, model: MetricModel, on_step: OnStep) -> Path:
    from huggingface_hub.file_download import http_get

    unfinished = folder / f".{file.name}.unfinished"
    with (
        silent_hub(),
        _translated_errors(file, model),
        CountedFile(unfinished, file.size_bytes, on_step) as target,
    ):
        http_get(
            file.url,
            target,
            resume_size=target.tell(),
            headers={"Accept-Encoding": "identity"},
            expected_size=file.size_bytes,
        )
    try:
        check_file(unfinished, file, model)
    except WeightsError as error:
        unfinished.unlink()
        raise WeightsError(
            f"{file.url}: the download is not the published {file.name}",
            hint=f"{model.fetch_command} starts it again",
        ) from error
    return unfinished.rename(folder / file.name)


@contextmanager
def _translated_errors(file: MetricFile, model: MetricModel) -> Iterator[None]:
    """Translate errors of the connection to `WeightsError`; faults of the disk stay `OSError`."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    HttpError = cast("type[Exception]", HfHubHTTPError.__mro__[1])
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise WeightsError(
            f"{file.name} cannot be downloaded: HF_HUB_OFFLINE is set",
            hint=f"unset HF_HUB_OFFLINE, or save {file.url} in a folder and name it with --weights",
        ) from error
    except (HttpError, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # a fault of this machine
        reason = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{file.url} cannot be downloaded: {reason}",
            hint=f"check the network; {model.fetch_command} resumes the download",
        ) from error
