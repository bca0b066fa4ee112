r"""Finding the files that a JSON names, as programs of other systems wrote the paths.

Read are paths with backslashes, absolute paths of the computer on which the data set was made,
names without a suffix, with another one or in another case, and `images/` where only a scaled copy
such as `images_2/` is left. Every file is inside the JSON's folder, links resolved.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from recon.errors import GridError
from recon.media import IMAGE_SUFFIXES

SCALED_FOLDERS = ("_2", "_4", "_8")  # of nerfstudio and COLMAP-based programs


class ImageFiles:
    """The files in the folder of a JSON file.

    Args:
        json_path: the JSON file, whose paths are relative to its folder.
    """

    def __init__(self, json_path: Path):
        self._json_path = json_path
        self._folder = json_path.parent.resolve()
        self._names = cache(_names_in)

    def find(self, file_path: str) -> Path:
        """Return the file that a path of the JSON means; it may be missing.

        Raises:
            GridError: the path is not valid, leaves the folder, or is not that of a file.
        """
        try:
            path = self._find(file_path)
            if path.is_dir():
                raise GridError("expected a file, found a folder", path)
        except (OSError, ValueError, RuntimeError) as error:
            raise GridError(
                f"file_path {file_path[:99]!r} is not a valid path ({error})", self._json_path
            ) from error
        if not path.is_relative_to(self._folder):
            raise GridError(
                f"file_path {file_path!r} leaves the folder; move all images into it",
                self._json_path,
            )
        return path

    def _find(self, file_path: str) -> Path:
        exact = (self._folder / file_path).resolve()
        if exact.is_file() and exact.is_relative_to(self._folder):
            return exact
        for candidate in _candidates(file_path.replace("\\", "/")):
            found = self._similar(self._folder / candidate)
            if found is not None:
                return found.resolve()
        return exact

    def _similar(self, path: Path) -> Path | None:
        """Return the file of a folder whose name is that of a path but for suffix and case."""
        names = self._names(path.parent)
        stem = path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
        for name in (path.name, *(stem + suffix for suffix in IMAGE_SUFFIXES)):
            if name.lower() in names:
                return path.parent / names[name.lower()]
        return None


def _candidates(file_path: str) -> Iterator[Path]:
    """Yield relative paths that a path may mean, the most literal one first."""
    if PurePosixPath(file_path).is_absolute() or PureWindowsPath(file_path).is_absolute():
        parts = PureWindowsPath(file_path).parts[1:]
        tails = [Path(*parts[start:]) for start in range(len(parts))]
    else:
        tails = [Path(file_path)]
    yield from tails
    for tail in tails:
        for index, part in enumerate(tail.parts[:-1]):
            for suffix in SCALED_FOLDERS:
                yield Path(*tail.parts[:index], part + suffix, *tail.parts[index + 1 :])


def _names_in(folder: Path) -> dict[str, str]:
    """Return the names of a folder's files by their lower-case form; empty if it is missing."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name.lower(): entry.name for entry in entries if entry.is_file()}
