"""Where results go: a finished folder or file is complete or absent, and nothing is lost unasked.

Results are made under a hidden name beside their place and renamed into it when they are done, so
an interruption, a full disk or an error leaves what was there before. What it does not know: what
is written.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from recon.errors import OutputError, OutputExistsError


def check_output(path: str | Path, overwrite: bool = False) -> None:
    """Tells early, before long work, whether a result folder may be made at `path`.

    Args:
        path: the folder; it may be absent or empty.
        overwrite: whether a folder with something in it may be replaced.

    Raises:
        OutputExistsError: a folder with something in it is there, and `overwrite` is False.
        OutputError: a file is in the way, or the folder that would be replaced holds the working
            directory or the home of the user.
    """
    path = Path(path)
    _check_ancestors(path)
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(
            f"{path} is a file, but a folder is to be made there; choose another name"
        )
    if next(path.iterdir(), None) is None:
        return
    if not overwrite:
        raise OutputExistsError(path)
    if any(
        Path(kept).resolve().is_relative_to(path.resolve()) for kept in (Path.cwd(), Path.home())
    ):
        raise OutputError(
            f"{path} holds the working directory or your home and is never replaced; "
            "choose a folder inside it"
        )


def check_output_file(path: str | Path, overwrite: bool = False) -> None:
    """The same as `check_output` for a single result file.

    Raises:
        OutputExistsError: a file is there, and `overwrite` is False.
        OutputError: a folder is in the way, or a file stands where a parent folder is needed.
    """
    path = Path(path)
    _check_ancestors(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder, but a file is to be written there; add a file name")
    if path.exists() and not overwrite:
        raise OutputExistsError(path, "choose another name or pass --overwrite")


@contextmanager
def output_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A fresh folder to fill; it becomes `path` when the block ends well and vanishes if not.

    Args:
        path: the result folder; parents are made.
        overwrite: whether a folder with something in it may be replaced. The old one is removed
            only after the new one is in its place.

    Yields:
        An empty folder on the same file system.

    Raises:
        OutputExistsError, OutputError: as `check_output`.
        OSError: the folder cannot be made or renamed.
    """
    check_output(path, overwrite)
    path = Path(path).resolve()  # a link to a folder stays a link: its target is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    try:  # a signal may arrive as soon as the folder is there
        partial.mkdir()
        yield partial
        check_output(path, overwrite)
        _replace_folder(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def output_file(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A path to write to; it becomes `path` when the block ends well and vanishes if not.

    Args:
        path: the result file; parents are made.
        overwrite: whether an existing file may be replaced.

    Yields:
        A path beside `path` with the same suffix, so that writers recognise the format.

    Raises:
        OutputExistsError, OutputError: as `check_output_file`.
        OSError: the file cannot be written or renamed.
    """
    check_output_file(path, overwrite)
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield partial
        check_output_file(path, overwrite)
        os.replace(partial, path)  # noqa: PTH105  (the name says that an existing file is replaced)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, value: Any) -> None:
    """Writes a JSON file that is never seen half-written, replacing an older one.

    Raises:
        OutputError: `value` holds NaN, an infinity or something that JSON has no form for.
        OSError: the file cannot be written.
    """
    try:
        text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise OutputError(f"{path} cannot be written as JSON: {error}") from error
    with output_file(path, overwrite=True) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _check_ancestors(path: Path) -> None:
    """Raises OutputError if the nearest thing that exists above `path` is not a folder."""
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise OutputError(
            f"{path} cannot be made because {nearest} is a file; choose another place"
        )


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
