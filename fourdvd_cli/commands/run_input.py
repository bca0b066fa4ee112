"""Has the input of `fourdvd run` changed since an earlier command?

Hidden files are no part of an input, nor is what lies in a folder of results inside of it. Where
the input is the JSON file of a grid, its images are not looked at.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

RECORD = "run.json"  # in the folder of a run


def input_stamp(source: Path, output: Path) -> str | None:
    """Return a digest of the names, sizes and times of change of a file, or of all in a folder.

    Args:
        source: the file or folder.
        output: folder of the results.

    Returns:
        Hexadecimal digits; None if there is no such file or folder.
    """
    if not source.exists():
        return None
    digest = hashlib.sha256()
    for path in _files(source, output):
        state = path.stat()
        digest.update(f"{_name(path, source)}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def input_digest(source: Path, output: Path) -> str | None:
    """Return a digest of the names and the content of a file, or of all in a folder.

    It is slower than `input_stamp`, but stays the same where a file was only copied.

    Args:
        source: the file or folder.
        output: folder of the results.

    Returns:
        Hexadecimal digits; None if there is no such file or folder, or a file cannot be read, which
        the step that needs it reports.
    """
    if not source.exists():
        return None
    digest = hashlib.sha256()
    try:
        for path in _files(source, output):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{_name(path, source)}\0{content}\0".encode())
    except OSError:
        return None
    return digest.hexdigest()


def _files(source: Path, output: Path) -> Iterator[Path]:
    """Yield the file, or the files in the folder in the order of their names."""
    if not source.is_dir():
        yield source
        return
    inside, results = source.resolve(), output.resolve()
    for place, folders, names in os.walk(inside):
        folder = Path(place)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and folder / name != results
        )
        files = (folder / name for name in sorted(names) if not name.startswith("."))
        yield from (path for path in files if path.is_file())


def _name(path: Path, source: Path) -> str:
    """Return the name of a file inside of a folder; a single file may be renamed."""
    return path.relative_to(source.resolve()).as_posix() if source.is_dir() else ""
