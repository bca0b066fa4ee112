"""What lies beside downloaded objects: `objects.jsonl`, `failures.jsonl` and `ATTRIBUTION.md`.

`objects.jsonl` has a row for each object that is there. Rows are added while a download runs, so
that an interruption loses none; at its end the table is written anew, ordered by uid. What it does
not know: how objects are selected and fetched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from generation.curation.objaverse.licences import LICENCES
from generation.curation.objaverse.selection import ObjaverseObject
from recon.errors import InputError, OutputError, OutputExistsError
from recon.output import output_file

TABLE_NAME = "objects.jsonl"
FAILURES_NAME = "failures.jsonl"
ATTRIBUTION_NAME = "ATTRIBUTION.md"
_ATTRIBUTION_HEAD = """\
# Credits

These objects of Objaverse are under licences that ask for credit. Whatever is made of them, renders
too, has to carry these lines, and has to say what was changed.

"""
_MARKDOWN = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>#|!"})


@dataclass(frozen=True)
class Record:
    """A row of `objects.jsonl`.

    Attributes:
        file: name of the GLB file, beside the table.
        uid: of the object in Objaverse.
        name: that its author gave it.
        licence: SPDX identifier of the licence, where it has one.
        licence_url: where the licence can be read.
        author: name to credit.
        author_url: page of the author, if it is known.
        source: page of the object.
        faces: of its mesh, as Sketchfab counts.
        animations: how many it has, as Sketchfab counts.
        bytes: of the file.
        sha256: of the file, in hexadecimal digits.
    """

    file: str
    uid: str
    name: str
    licence: str
    licence_url: str
    author: str
    author_url: str | None
    source: str
    faces: int
    animations: int
    bytes: int
    sha256: str


def record_of(wanted: ObjaverseObject, size: int, sha256: str) -> Record:
    """The row of an object that is there.

    Args:
        wanted: the object.
        size: of its file in bytes.
        sha256: of its file.
    """
    return Record(
        file_name(wanted.uid),
        wanted.uid,
        wanted.name,
        wanted.licence.name,
        wanted.licence.url,
        wanted.author,
        wanted.author_url,
        wanted.source,
        wanted.faces,
        wanted.animations,
        size,
        sha256,
    )


def file_name(uid: str) -> str:
    """The file of an object."""
    return f"{uid}.glb"


def check_folder(folder: Path) -> None:
    """Makes sure that no file of somebody else has to make place for the credits or failures.

    Args:
        folder: for the objects; it may be absent, or hold other things.

    Raises:
        OutputExistsError: such a file is there without a table of objects.
        OutputError: the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, but a folder is to be filled; choose another name")
    if (folder / TABLE_NAME).exists():
        return
    for name in (ATTRIBUTION_NAME, FAILURES_NAME):
        if (folder / name).exists():
            raise OutputExistsError(folder / name, "choose another folder")


def read_records(folder: Path) -> dict[str, Record]:
    """The rows of the objects whose files are there in the size they should have, by uid.

    A torn last line, which a crash leaves, counts as absent; its object's file is there and gets a
    row again without a download.

    Raises:
        InputError: another line is not a row; names the line.
    """
    path = folder / TABLE_NAME
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    records = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = _parse(line)
        except ValueError as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise InputError(f"line {number} is not a row of objects: {error}", path) from error
        file = folder / file_name(record.uid)
        if file.is_file() and file.stat().st_size == record.bytes:
            records[record.uid] = record
    return records


def append_record(folder: Path, record: Record) -> None:
    """Adds a row that is on the disk when this returns.

    Raises:
        OSError: the table cannot be written.
    """
    with (folder / TABLE_NAME).open("ab") as file:
        file.write(_line(asdict(record)))
        file.flush()
        os.fsync(file.fileno())


def write_records(folder: Path, records: Iterable[Record]) -> None:
    """Writes the whole table and the credits, in place of older ones.

    Raises:
        OSError: a file cannot be written; the older one is kept.
    """
    rows = sorted(records, key=lambda record: record.uid)
    with output_file(folder / TABLE_NAME, overwrite=True) as partial:
        partial.write_bytes(b"".join(_line(asdict(record)) for record in rows))
    _write_or_remove(folder / ATTRIBUTION_NAME, attribution(rows).encode())


def write_failures(folder: Path, failures: Mapping[str, str]) -> None:
    """Writes why objects are missing, in place of what an older run wrote.

    Args:
        folder: of the objects.
        failures: a sentence for each uid.

    Raises:
        OSError: the file cannot be written.
    """
    rows = ({"uid": uid, "reason": reason} for uid, reason in sorted(failures.items()))
    _write_or_remove(folder / FAILURES_NAME, b"".join(map(_line, rows)))


def attribution(records: Iterable[Record]) -> str:
    """The credits that licences ask for, in Markdown: a line for each object; "" if there is none.

    Args:
        records: of all objects.
    """
    asking = {licence.name for licence in LICENCES.values() if licence.attribution}
    lines = [_credit(record) for record in records if record.licence in asking]
    return _ATTRIBUTION_HEAD + "".join(lines) if lines else ""


def _credit(record: Record) -> str:
    name, author = record.name.translate(_MARKDOWN), record.author.translate(_MARKDOWN)
    by = author if record.author_url is None else f"[{author}](<{record.author_url}>)"
    licence = f"[{record.licence}](<{record.licence_url}>)"
    return f"- `{record.file}`: [{name}](<{record.source}>) by {by}, {licence}\n"


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _parse(line: bytes) -> Record:
    """Reads what `_line` wrote; raises ValueError, which bad JSON and bad UTF-8 are, too."""
    row = json.loads(line)
    names = {each.name for each in fields(Record)}
    if not isinstance(row, dict) or row.keys() != names:
        raise ValueError(f"expected the keys {', '.join(sorted(names))}")
    return Record(**row)


def _write_or_remove(path: Path, content: bytes) -> None:
    """A file with nothing in it would only puzzle."""
    if not content:
        path.unlink(missing_ok=True)
        return
    with output_file(path, overwrite=True) as partial:
        partial.write_bytes(content)
