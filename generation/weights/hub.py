"""Downloads of published weights from the Hugging Face hub: asked for, resumable, verified.

The hub's own environment holds: `HF_TOKEN` and `hf auth login`, `HF_HOME`, `HF_ENDPOINT`,
`HF_HUB_OFFLINE`. A file of 12 GB must survive a broken connection and Ctrl-C, but `hf_hub_download`
of huggingface_hub 2 throws away what it has when it fails. So the bytes are fetched here, by the
hub's `http_get`, into an unfinished file with which the next call goes on. Without a folder the
file ends in the cache that programs of Hugging Face share, where the hub's library finds it, too.

The telemetry, logs and progress bars of that library are off meanwhile.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from generation.weights.catalogue import PublishedModel
from generation.weights.hub_errors import again, explained
from generation.weights.store import FOLDER_VARIABLE, file_sha256, find_in_cache
from generation.weights.verify import verify_weights
from recon.errors import WeightsError

Progress = Callable[[int, int], None]


class _Remote(NamedTuple):
    """A file on the hub: which version, and what it should weigh and hash to."""

    commit: str
    etag: str
    size: int


def fetch_weights(
    model: PublishedModel,
    folder: str | Path | None = None,
    accept_licence: bool = False,
    on_progress: Progress | None = None,
) -> Path:
    """Downloads the weights of a model, unless they are at their place already.

    Args:
        model: whose.
        folder: gets the file; that of `FOURDVD_WEIGHTS` if None, or else the Hugging Face cache.
        accept_licence: whether the user has said to accept the licence of the weights.
        on_progress: called with the bytes that are there and the bytes of the whole file.

    Returns:
        The file, verified.

    Raises:
        WeightsError: the licence is not accepted, the hub does not hand the file out or is not
            reached, or the file is not what was expected. Says what to do.
        OSError: the disk is full or may not be written.
    """
    folder = folder or os.environ.get(FOLDER_VARIABLE) or None
    path = find_in_cache(model) if folder is None else Path(folder) / model.file_name
    if path is None or not path.exists():
        if not accept_licence:
            raise WeightsError(
                f"the weights of {model.label} are under the {model.licence}; "
                f"read it at {model.licence_url}",
                hint=f"if you accept it: `fourdvd models fetch {model.label} --accept-licence`",
            )
        with _silent_hub(), explained(model):
            path = _fetch(model, folder, on_progress or (lambda done, total: None))
    verify_weights(path, model)
    return path


def _fetch(model: PublishedModel, folder: str | Path | None, on_progress: Progress) -> Path:
    remote = _look_up(model)
    if folder is not None:
        final = Path(folder) / model.file_name
        final.parent.mkdir(parents=True, exist_ok=True)
        unfinished = final.with_name(f".{model.file_name}.{remote.etag[:16]}.unfinished")
        lock = final.with_name(f".{model.file_name}.lock")
        _fetch_to(final, unfinished, lock, model, remote, on_progress)
        lock.unlink(missing_ok=True)
        return final

    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.file_download import repo_folder_name

    cache = Path(constants.HF_HUB_CACHE)
    name = repo_folder_name(repo_id=model.repository, repo_type="model")
    blob = cache / name / "blobs" / remote.etag
    lock = cache / ".locks" / name / f"{remote.etag}.lock"  # the lock of the hub's own library
    _fetch_to(blob, blob.with_name(f"{remote.etag}.incomplete"), lock, model, remote, on_progress)
    return Path(hf_hub_download(model.repository, model.file_name))  # it finds the blob; links it


def _look_up(model: PublishedModel) -> _Remote:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    found = get_hf_file_metadata(hf_hub_url(model.repository, model.file_name))
    tag = found.etag and re.fullmatch(r"[\w-]+", found.etag)  # it becomes the name of a file
    if found.commit_hash is None or found.etag is None or found.size is None or not tag:
        raise WeightsError(
            f"the answer to the question for {model.file_name} is not that of a Hugging Face hub",
            hint="check HF_ENDPOINT and the proxy",
        )
    return _Remote(found.commit_hash, found.etag, found.size)


def _fetch_to(
    final: Path,
    unfinished: Path,
    lock: Path,
    model: PublishedModel,
    remote: _Remote,
    on_progress: Progress,
) -> None:
    """Makes the final file from the unfinished one; only one process at a time works on it."""
    from huggingface_hub.utils import WeakFileLock

    final.parent.mkdir(parents=True, exist_ok=True)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if final.exists() and _is_intact(final, remote):  # another process made it meanwhile
            return
        _download(unfinished, model, remote, on_progress)
        if not _is_intact(unfinished, remote):
            unfinished.unlink()
            raise WeightsError(
                f"what arrived of {model.label} is damaged: its sha256 is not that of the hub",
                hint=again(model).replace("goes on where it stopped", "begins anew"),
            )
        unfinished.replace(final)


def _download(
    unfinished: Path, model: PublishedModel, remote: _Remote, on_progress: Progress
) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    with _CountedFile(unfinished, lambda done: on_progress(done, remote.size)) as file:
        if file.tell() > remote.size:
            file.restart()
        _check_space(unfinished.parent, remote.size - file.tell())
        http_get(  # from the hub's own address each time: those it redirects to soon expire
            hf_hub_url(model.repository, model.file_name, revision=remote.commit),
            file,
            resume_size=file.tell(),
            headers={**build_hf_headers(), "Accept-Encoding": "identity"},
            expected_size=remote.size,
        )


def _is_intact(path: Path, remote: _Remote) -> bool:
    """Whether size and sha256 are those of the hub, whose tag of a large file is its sha256."""
    if path.stat().st_size != remote.size:
        return False
    return not re.fullmatch("[0-9a-f]{64}", remote.etag) or file_sha256(path) == remote.etag


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"no space for the download: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} free",
            str(folder),
        )


class _CountedFile(io.BufferedWriter):
    """A file that is appended to and tells how long it has become."""

    def __init__(self, path: Path, on_write: Callable[[int], None]):
        super().__init__(io.FileIO(path, "r+" if path.exists() else "x+"))
        self.seek(0, os.SEEK_END)
        self._on_write = on_write

    def write(self, buffer: Any, /) -> int:
        """Writes and tells."""
        written = super().write(buffer)
        self._on_write(self.tell())
        return written

    def restart(self) -> None:
        """Throws away what is in the file."""
        self.seek(0)
        self.truncate()


@contextmanager
def _silent_hub() -> Iterator[None]:
    """Keeps the hub's library from reporting home and to the terminal, then puts all back."""
    from huggingface_hub import constants
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    telemetry, verbosity = constants.HF_HUB_DISABLE_TELEMETRY, logging.get_verbosity()
    bars_are_ours = constants.HF_HUB_DISABLE_PROGRESS_BARS is None  # else the user has said
    bars_were_off = are_progress_bars_disabled()
    constants.HF_HUB_DISABLE_TELEMETRY = True
    logging.set_verbosity_error()
    if bars_are_ours:
        disable_progress_bars()
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry
        logging.set_verbosity(verbosity)
        if bars_are_ours and not bars_were_off:
            enable_progress_bars()
