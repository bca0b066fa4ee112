"""Where assets came from: licence, source and author, read from a table that lies beside them.

Two forms: a CSV with a column `file`, and JSON lines with the key `asset` or `file` (so a
`manifest.jsonl` of rendered data serves, too). Files are named relative to the folder of the table.
What it does not know: which files are assets, and which licences are good enough.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from recon.errors import InputError

TABLE_NAMES = ("assets.csv", "objects.jsonl")


class Origin(NamedTuple):
    """Where an asset came from; what is not known is None.

    Attributes:
        source: repository or address.
        licence: as its publisher names it.
        author: whom to credit.
    """

    source: str | None = None
    licence: str | None = None
    author: str | None = None


def find_table(folder: Path) -> Path | None:
    """The table in a folder or in the one above it, if there is one."""
    candidates = [place / name for place in (folder, folder.parent) for name in TABLE_NAMES]
    return next((path for path in candidates if path.is_file()), None)


def read_origins(path: str | Path) -> dict[Path, Origin]:
    """Reads a table of origins.

    Args:
        path: a .csv or .jsonl file.

    Returns:
        The origin of each file that the table names, by `canonical` path.

    Raises:
        InputError: the table is missing, of another kind or broken, or tells two origins of a file.
    """
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise InputError("expected a .csv or .jsonl table of licences and sources", path)
    if not path.is_file():
        raise InputError("no such file", path)
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
    origins: dict[Path, Origin] = {}
    for line, row in rows:
        name = _text(row, ("file", "asset"), line, path)
        if name is None:
            raise InputError(f"line {line} names no file; expected the key `file` or `asset`", path)
        origin = Origin(
            source=_text(row, ("source", "source_repository"), line, path),
            licence=_text(row, ("licence",), line, path),
            author=_text(row, ("author",), line, path),
        )
        file = canonical(path.parent / name)
        if origins.setdefault(file, origin) != origin:
            raise InputError(f"line {line} tells another origin of {name} than one above", path)
    return origins


def canonical(path: Path) -> Path:
    """The absolute path of a file; links to folders are followed, a link to a file is kept.

    Stores keep files under hashes and link to them, so only the link has the name and suffix.
    """
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if "file" not in (reader.fieldnames or ()):
                raise InputError("the table has no column `file`", path)
            for row in reader:
                if None in row:
                    raise InputError(f"line {reader.line_num} has more cells than the head", path)
                yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"not a CSV table in UTF-8: {error}", path) from error


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"not JSON lines in UTF-8: {error}", path) from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {number} is not JSON: {error}", path) from error
        if not isinstance(row, dict):
            raise InputError(f"line {number} is not a JSON object", path)
        yield number, row


def _text(row: dict[str, Any], keys: tuple[str, ...], line: int, path: Path) -> str | None:
    """The first of some keys that holds something, which must be a text."""
    for key in keys:
        value = row.get(key)
        if value is None or value == "":
            continue
        if not isinstance(value, str) or "\0" in value:
            raise InputError(f"line {line}: expected a text as `{key}`, found {value!r}", path)
        return value.strip()
    return None
