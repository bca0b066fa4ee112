"""Atomic output: a result folder or file is complete or absent, and replaced only on request.

Results are written under a hidden name next to their final path and renamed when they are complete,
so that an interruption, a full disk or an error keeps the earlier result. Errors of the system name
the result, not its hidden name.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from recon.errors import OutputError, OutputExistsError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors for which the system names no file


def check_output(path: str | Path, overwrite: bool = False) -> None:
    """Check, before long work, that a result folder may be created at `path`.

    Args:
        path: the folder; it may be absent or empty.
        overwrite: whether a folder that is not empty may be replaced.

    Raises:
        OutputExistsError: the folder is not empty, and `overwrite` is False.
        OutputError: there is a file at `path`, or the folder to be replaced contains the working
            directory or the user's home.
    """
    path = Path(path)
    _check_ancestors(path)
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(f"{path} is a file, expected a folder or a new name; choose another name")
    if next(path.iterdir(), None) is None:
        return
    if not overwrite:
        raise OutputExistsError(path)
    if any(
        Path(kept).resolve().is_relative_to(path.resolve()) for kept in (Path.cwd(), Path.home())
    ):
        raise OutputError(
            f"{path} contains the working directory or your home and is never replaced; "
            "choose a folder inside it"
        )


def check_output_file(path: str | Path, overwrite: bool = False) -> None:
    """Check, before long work, that a result file may be created at `path`.

    Raises:
        OutputExistsError: the file exists, and `overwrite` is False.
        OutputError: there is a folder at `path`, or a file in place of a parent folder.
    """
    path = Path(path)
    _check_ancestors(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder, expected a file; add a file name")
    if path.exists() and not overwrite:
        raise OutputExistsError(path, "choose another name or pass --overwrite")


@contextmanager
def output_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Create a folder that becomes `path` when the block ends, or is removed after an exception.

    Args:
        path: the result folder; parents are created.
        overwrite: whether a folder that is not empty may be replaced; the old one is removed only
            after the new one is in its place.

    Yields:
        An empty folder on the same file system.

    Raises:
        OutputExistsError, OutputError: see `check_output`.
        OSError: the folder cannot be created or renamed.
    """
    check_output(path, overwrite)
    path = _place(path)
    partial = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    try:  # a signal may arrive as soon as the folder is there
        with _creating(path):
            partial.mkdir()
        yield partial
        check_output(path, overwrite)
        _replace_folder(partial, path)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        _name_result(error, partial, path)
        raise


@contextmanager
def sole_writer(path: str | Path, wait_s: float = 0.0) -> Iterator[None]:
    """Keep other processes from writing to a result folder while the block runs.

    A hidden file next to the folder is locked. The system unlocks it when this process ends for any
    reason, also on the machines of a shared file system with locks, such as NFS.

    Args:
        path: the result folder, which need not exist; parents are created.
        wait_s: how long to wait for another process in seconds.

    Raises:
        OutputError: another process holds the folder, a file is in place of a parent folder, or
            nothing can be created there.
        OSError: the file cannot be created.
    """
    from filelock import FileLock, Timeout  # not for `--help`, which imports this module

    _check_ancestors(Path(path))
    path = _place(path)
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=wait_s)
    try:
        with _creating(path):  # else filelock waits in vain for a file that cannot be created
            Path(lock.lock_file).touch()
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"{path} is in use by another process; wait for its end, or choose another folder"
        ) from error
    except OSError as error:
        _name_result(error, Path(lock.lock_file), path)
        raise
    try:
        yield
    finally:
        with suppress(OSError):  # where files in use cannot be deleted, an empty one stays
            Path(lock.lock_file).unlink()
        lock.release()


@contextmanager
def output_file(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path whose file becomes `path` when the block ends, or is removed after an exception.

    Args:
        path: the result file; parents are created.
        overwrite: whether an existing file may be replaced.

    Yields:
        A path next to `path` with the same suffix, so that writers recognize the format.

    Raises:
        OutputExistsError, OutputError: see `check_output_file`.
        OSError: the file cannot be written or renamed.
    """
    check_output_file(path, overwrite)
    path = _place(path)
    partial = path.with_name(f".{path.stem}.partial-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield partial
        check_output_file(path, overwrite)
        os.replace(partial, path)  # noqa: PTH105  (the name says that an existing file is replaced)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        _name_result(error, partial, path)
        raise


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a folder for files that other programs exchange; it is removed when the block ends.

    Raises:
        OSError: the folder cannot be created, or its disk is full, which the error then names.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield Path(folder)
        except OSError as error:
            _name_result(error, Path(folder), Path(tempfile.gettempdir()))
            raise


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file atomically, replacing an older one.

    Raises:
        OutputError: `value` contains NaN, an infinity or something that JSON cannot represent.
        OSError: the file cannot be written.
    """
    text = json_text(value, path)
    with output_file(path, overwrite=True) as partial:
        partial.write_text(text, encoding="utf-8")


def json_text(value: Any, path: str | Path) -> str:
    """Return the content of a JSON file, which `path` names in errors.

    Raises:
        OutputError: `value` contains NaN, an infinity or something that JSON cannot represent.
    """
    try:
        return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise OutputError(f"{path} cannot be written as JSON: {error}") from error


def system_error(message: str, path: str | Path) -> OSError | None:
    """Return the error of the system that a message of a program in Rust mentions, if any.

    Args:
        message: text that contains, for example, "(os error 28)".
        path: the file that was written.
    """
    found = re.search(r"\(os error (\d+)\)", message)
    if found is None:
        return None
    number = int(found[1])
    return OSError(number, os.strerror(number), str(path))


def _check_ancestors(path: Path) -> None:
    """Raise OutputError if the nearest existing parent of `path` is not a folder."""
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise OutputError(
            f"{path} cannot be created because {nearest} is a file; choose another location"
        )


def _place(path: str | Path) -> Path:
    """Resolve a result path, and create its parents.

    A link to a folder stays a link: its target is replaced.
    """
    path = Path(path).resolve()
    with _creating(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def _creating(path: Path) -> Iterator[None]:
    """Say what "no such file" means where a result is created: its file system is not for files."""
    try:
        yield
    except FileNotFoundError as error:
        nearest = next(parent for parent in path.parents if parent.exists())
        raise OutputError(
            f"{path} cannot be created, because nothing can be in {nearest}; choose another "
            "location"
        ) from error


def _name_result(error: BaseException, partial: Path, path: Path) -> None:
    """Let an error of the system name the result instead of its hidden name, or of no file."""
    if not isinstance(error, OSError):
        return
    named = error.filename
    if named is None and error.errno in FULL:
        error.filename = str(path)
    elif isinstance(named, str) and Path(named).is_relative_to(partial):
        error.filename = str(path / Path(named).relative_to(partial))


def _replace_folder(new: Path, path: Path) -> None:
    if not path.exists() or next(path.iterdir(), None) is None:
        new.replace(path)
        return
    old = path.with_name(f".{path.name}.replaced-{secrets.token_hex(4)}")
    try:
        path.rename(old)
        new.rename(path)
        shutil.rmtree(old)
    except BaseException:
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(path)
        raise
