"""Weights of the metrics with networks: where they come from, finding, checking, downloading them.

    lpips        vgg16-397923af.pth, lpips_v0.1_vgg.pth
    lpips-alex   alexnet-owt-7be5be79.pth, lpips_v0.1_alex.pth
    clip         clip-vit-base-patch32.bin
    fvd          i3d_pretrained_400.pt

They are searched in --weights DIR, FOURDVD_WEIGHTS, torch's cache (TORCH_HOME) and the Hugging Face
cache; a file of the same stem with the suffix .safetensors is read, too. `.pth` files are read with
torch's restricted unpickler and only if their content is the published one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from generation.weights.catalogue import HUB
from generation.weights.hub import CountedFile, silent_hub
from generation.weights.store import FOLDER_VARIABLE, search_folders
from generation.weights.verify import file_sha256
from recon.errors import WeightsError
from recon.progress import OnStep, ignore_progress

_TORCHVISION = "BSD-3-Clause (torchvision)"
_LPIPS_COMMIT = "082bb24f84c091ea94de2867d34c4544f68e0963"
_LPIPS = f"https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/{_LPIPS_COMMIT}"
_CLIP_COMMIT = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
_TATS_COMMIT = "03bbce1daa3da7e9bff8221e9ec433df9484817f"
_TATS = f"https://raw.githubusercontent.com/songweige/TATS/{_TATS_COMMIT}"


@dataclass(frozen=True)
class MetricFile:
    """A published file of weights.

    Attributes:
        name: name of the file on this machine.
        url: where it is downloaded from.
        license: name of its license.
        sha256: of its content; "" where only `git_blob` is known.
        git_blob: identifier of its content in a git repository (SHA-1); "" if `sha256` is known.
        size_bytes: its size; None if unknown.
        cached_as: repository and name in the Hugging Face cache; None if it is not on the hub.
    """

    name: str
    url: str
    license: str
    sha256: str = ""
    git_blob: str = ""
    size_bytes: int | None = None
    cached_as: tuple[str, str] | None = None


@dataclass(frozen=True)
class MetricModel:
    """The files that a metric needs.

    Attributes:
        name: name in commands.
        files: its files, in the order in which its loader takes them.
    """

    name: str
    files: tuple[MetricFile, ...]

    @property
    def label(self) -> str:
        """The name in commands and messages."""
        return self.name

    @property
    def license(self) -> str:
        """Names of the licenses of its files."""
        return ", ".join(dict.fromkeys(file.license for file in self.files))

    @property
    def fetch_command(self) -> str:
        """The command that downloads the files."""
        return f"`fourdvd models fetch {self.name}`"


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


metric_models = {
    model.name: model
    for model in (
        MetricModel(
            "lpips",
            (
                MetricFile(
                    "vgg16-397923af.pth",
                    "https://download.pytorch.org/models/vgg16-397923af.pth",
                    _TORCHVISION,
                    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
                    size_bytes=553_433_881,
                ),
                MetricFile(
                    "lpips_v0.1_vgg.pth",
                    f"{_LPIPS}/lpips/weights/v0.1/vgg.pth",
                    "BSD-2-Clause",
                    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
                    size_bytes=7_289,
                ),
            ),
        ),
        MetricModel(
            "lpips-alex",
            (
                MetricFile(
                    "alexnet-owt-7be5be79.pth",
                    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
                    _TORCHVISION,
                    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
                    size_bytes=244_408_911,
                ),
                MetricFile(
                    "lpips_v0.1_alex.pth",
                    f"{_LPIPS}/lpips/weights/v0.1/alex.pth",
                    "BSD-2-Clause",
                    "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
                    size_bytes=6_009,
                ),
            ),
        ),
        MetricModel(
            "clip",
            (
                MetricFile(
                    "clip-vit-base-patch32.bin",
                    f"{HUB}/openai/clip-vit-base-patch32/resolve/{_CLIP_COMMIT}/pytorch_model.bin",
                    "MIT (OpenAI CLIP)",
                    "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
                    size_bytes=605_247_071,
                    cached_as=("openai/clip-vit-base-patch32", "pytorch_model.bin"),
                ),
            ),
        ),
        MetricModel(
            "fvd",
            (
                MetricFile(
                    "i3d_pretrained_400.pt",
                    f"{_TATS}/tats/fvd/i3d_pretrained_400.pt",
                    "not stated; from DeepMind's I3D, Apache-2.0",
                    git_blob="a867b87ac3a9097d200598b1d48a1b890d8ec744",
                ),
            ),
        ),
    )
}


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

    found = try_to_load_from_cache(repository, name, revision=_CLIP_COMMIT)
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
