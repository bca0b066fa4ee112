"""Downloads of published weights from the Hugging Face hub: resumable and verified.

The hub's environment variables apply: `HF_TOKEN` (or `hf auth login`), `HF_HOME`, `HF_ENDPOINT`,
`HF_HUB_OFFLINE`. `hf_hub_download` of huggingface_hub 2 discards a partial download when it fails,
which is too costly for a file of 12 GB. Here the hub's `http_get` writes to an unfinished file, and
the next call resumes it. Without a target folder, the file goes into the shared Hugging Face cache,
where huggingface_hub finds it.

Telemetry, logging and progress bars of huggingface_hub are off during a download.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

from generation.weights.catalogue import PublishedModel
from generation.weights.store import FOLDER_VARIABLE, find_in_cache
from generation.weights.verify import file_sha256, verify_weights
from recon.errors import WeightsError
from recon.progress import Eta, OnStep, Progress, ignore_progress

PHASE = "downloading"
MEGABYTE = 10**6


class _Remote(NamedTuple):
    """A file on the hub.

    Attributes:
        commit: commit hash of its version.
        etag: ETag of its content; for a large file, the sha256.
        size: size in bytes.
    """

    commit: str
    etag: str
    size: int


def fetch_weights(
    model: PublishedModel,
    folder: str | Path | None = None,
    accept_license: bool = False,
    on_step: OnStep | None = None,
) -> Path:
    """Download the weights of a model, unless they exist already.

    Args:
        model: the model.
        folder: target folder; None for the folder in `FOURDVD_WEIGHTS` if that is set, else the
            Hugging Face cache.
        accept_license: whether the user accepts the license of the weights.
        on_step: called for each downloaded megabyte with their number.

    Returns:
        Path of the verified file.

    Raises:
        WeightsError: the license is not accepted, the hub refuses the file or cannot be reached, or
            the file is not the expected one. The hint says what to do.
        OSError: the disk is full or not writable.
    """
    folder = folder or os.environ.get(FOLDER_VARIABLE) or None
    path = find_in_cache(model) if folder is None else Path(folder) / model.file_name
    if path is None or not path.exists():
        if not accept_license:
            raise WeightsError(
                f"the weights of {model.label} are under the {model.license}; "
                f"read it at {model.license_url}",
                hint=f"if you accept it: `fourdvd models fetch {model.label} --accept-license`",
            )
        with silent_hub(), _translated_errors(model):
            path = _fetch(model, folder, on_step or ignore_progress)
    verify_weights(path, model)
    return path


def _fetch(model: PublishedModel, folder: str | Path | None, on_step: OnStep) -> Path:
    remote = _look_up(model)
    if folder is not None:
        final = Path(folder) / model.file_name
        final.parent.mkdir(parents=True, exist_ok=True)
        unfinished = final.with_name(f".{model.file_name}.{remote.etag[:16]}.unfinished")
        lock = final.with_name(f".{model.file_name}.lock")
        _fetch_to(final, unfinished, lock, model, remote, on_step)
        lock.unlink(missing_ok=True)
        return final

    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.file_download import repo_folder_name

    cache = Path(constants.HF_HUB_CACHE)
    name = repo_folder_name(repo_id=model.repository, repo_type="model")
    blob = cache / name / "blobs" / remote.etag
    lock = cache / ".locks" / name / f"{remote.etag}.lock"  # the lock of the hub's own library
    _fetch_to(blob, blob.with_name(f"{remote.etag}.incomplete"), lock, model, remote, on_step)
    return Path(hf_hub_download(model.repository, model.file_name))  # finds the blob and links it


def _look_up(model: PublishedModel) -> _Remote:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    found = get_hf_file_metadata(hf_hub_url(model.repository, model.file_name))
    tag = found.etag and re.fullmatch(r"[\w-]+", found.etag)  # becomes the name of a file
    if found.commit_hash is None or found.etag is None or found.size is None or not tag:
        raise WeightsError(
            f"expected a Hugging Face hub, but the answer about {model.file_name} lacks commit, "
            "ETag or size",
            hint="check HF_ENDPOINT and the proxy",
        )
    return _Remote(found.commit_hash, found.etag, found.size)


def _fetch_to(
    final: Path,
    unfinished: Path,
    lock: Path,
    model: PublishedModel,
    remote: _Remote,
    on_step: OnStep,
) -> None:
    """Complete the unfinished file and rename it, under a lock."""
    from huggingface_hub.utils import WeakFileLock

    final.parent.mkdir(parents=True, exist_ok=True)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if final.exists() and _is_intact(final, remote):  # another process made it meanwhile
            return
        _download(unfinished, model, remote, on_step)
        if not _is_intact(unfinished, remote):
            unfinished.unlink()
            raise WeightsError(
                f"the download of {model.label} is damaged: its sha256 is not that of the hub",
                hint=f"{_fetch_command(model)} starts it again",
            )
        unfinished.replace(final)


def _download(unfinished: Path, model: PublishedModel, remote: _Remote, on_step: OnStep) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    with CountedFile(unfinished, remote.size, on_step) as file:
        if file.tell() > remote.size:
            file.restart()
        _check_space(unfinished.parent, remote.size - file.tell())
        http_get(  # always from the hub's own URL, as the URLs that it redirects to expire soon
            hf_hub_url(model.repository, model.file_name, revision=remote.commit),
            file,
            resume_size=file.tell(),
            headers={**build_hf_headers(), "Accept-Encoding": "identity"},
            expected_size=remote.size,
        )


def _is_intact(path: Path, remote: _Remote) -> bool:
    """Return whether the size matches, and the sha256 if the hub names one."""
    if path.stat().st_size != remote.size:
        return False
    return not re.fullmatch("[0-9a-f]{64}", remote.etag) or file_sha256(path) == remote.etag


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"expected {needed / 1e9:.1f} GB of free space for the download, found "
            f"{free / 1e9:.1f} GB; free some, or choose another folder",
            str(folder),
        )


class CountedFile(io.BufferedWriter):
    """A file opened for appending that reports its length in megabytes.

    Args:
        path: the file; it is made if it does not exist.
        size: size in bytes that it will have; None if unknown.
        on_step: called for each megabyte.
    """

    def __init__(self, path: Path, size: int | None, on_step: OnStep):
        super().__init__(io.FileIO(path, "r+" if path.exists() else "x+"))
        self.seek(0, os.SEEK_END)
        self._total, self._on_step = None if size is None else size // MEGABYTE, on_step
        self._megabytes = self.tell() // MEGABYTE
        self._eta = Eta((self._total or 0) - self._megabytes)

    def write(self, buffer: Any, /) -> int:
        """Write, and report full megabytes."""
        written = super().write(buffer)
        megabytes = self.tell() // MEGABYTE
        if megabytes > self._megabytes:
            self._eta.tick(megabytes - self._megabytes)
            self._megabytes = megabytes
            left = None if self._total is None else self._eta.seconds_left
            self._on_step(Progress(PHASE, megabytes, self._total, left))
        return written

    def restart(self) -> None:
        """Discard the content."""
        self.seek(0)
        self.truncate()
        self._megabytes, self._eta = 0, Eta(self._total or 0)


@contextmanager
def silent_hub() -> Iterator[None]:
    """Turn telemetry and terminal output of the hub's library off inside the block."""
    from huggingface_hub import constants
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    telemetry, verbosity = constants.HF_HUB_DISABLE_TELEMETRY, logging.get_verbosity()
    bars_are_ours = constants.HF_HUB_DISABLE_PROGRESS_BARS is None  # else the user has decided
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


# -- errors


@contextmanager
def _translated_errors(model: PublishedModel) -> Iterator[None]:
    """Translate errors of the hub and of the connection to `WeightsError`.

    A full disk and other faults of this machine stay `OSError`.
    """
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    # The base of the hub's error is that of the HTTP client, which depends on the hub's version.
    HttpError = cast("type[Exception]", HfHubHTTPError.__mro__[1])
    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(error, model) from error
    except OfflineModeIsEnabled as error:
        raise WeightsError(
            f"{model.label} cannot be downloaded: HF_HUB_OFFLINE is set",
            hint="unset HF_HUB_OFFLINE, or name a folder that has the file with --weights",
        ) from error
    except (HttpError, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # a fault of this machine; the hub's library raises OSError without a number
        raise _interrupted(error, model) from error


def _fetch_command(model: PublishedModel) -> str:
    return f"`fourdvd models fetch {model.label} --accept-license`"


def _refused(error: Exception, model: PublishedModel) -> WeightsError:
    """Return the error for a request that the hub refused."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = getattr(getattr(error, "response", None), "status_code", None)
    log_in = "`hf auth login` or HF_TOKEN"
    if isinstance(error, (EntryNotFoundError, RevisionNotFoundError)):
        return WeightsError(
            f"the hub has no {model.file_name} in {model.repository}", hint=f"look at {model.page}"
        )
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        if get_token() is None:
            return WeightsError(
                f"the hub refuses {model.repository} without an account",
                hint=f"accept the license on {model.page}, log in with {log_in}, and try again",
            )
        gated = isinstance(error, GatedRepoError) or status == 403
        reason = "has not accepted the license" if gated else "is unknown or has no access"
        return WeightsError(
            f"the hub refuses {model.repository}: the account of your token {reason}",
            hint=f"accept the license on {model.page} with that account, or change it: {log_in}",
        )
    return WeightsError(
        f"the hub cannot deliver {model.label} now: it answered {status}",
        hint=f"{_fetch_command(model)} resumes the download",
    )


def _interrupted(error: Exception, model: PublishedModel) -> WeightsError:
    """Return the error for a hub that cannot be reached or a connection that broke."""
    reason = str(error.__cause__ or error).splitlines() or [type(error).__name__]
    return WeightsError(
        f"the connection to the hub failed while fetching {model.label}: {reason[0]}",
        hint=f"check the network; {_fetch_command(model)} resumes the download",
    )
