"""Which files are animated 3D assets, what each is called, and where it came from.

An asset is one file of a known format, or a folder of numbered OBJ files, one for each frame. What
it does not know: what is inside the files.


----
Where assets came from: licence, source and author, read from a table that lies beside them.

Two forms: a CSV with a column `file`, and JSON lines with the key `asset` or `file` (so a
`manifest.jsonl` of rendered data serves, too). Files are named relative to the folder of the table.
What it does not know: which files are assets, and which licences are good enough.
"""

from __future__ import annotations

import csv
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from recon.errors import InputError


class AssetFormat(StrEnum):
    """What reads an asset."""

    glb = "glb"
    gltf = "gltf"
    fbx = "fbx"
    abc = "abc"
    usd = "usd"
    obj = "obj"


FORMATS = {
    ".glb": AssetFormat.glb,
    ".gltf": AssetFormat.gltf,
    ".fbx": AssetFormat.fbx,
    ".abc": AssetFormat.abc,
    ".usd": AssetFormat.usd,
    ".usda": AssetFormat.usd,
    ".usdc": AssetFormat.usd,
    ".usdz": AssetFormat.usd,
}
KNOWN = f"{' '.join(FORMATS)} and folders of numbered OBJ files such as box_0001.obj, box_0002.obj"
_NAME_BYTES = 120  # names of files end at 255, and grids are made under a longer hidden name


@dataclass(frozen=True)
class Asset:
    """An animated 3D asset on this machine.

    Attributes:
        path: absolute; a file, or the folder of an OBJ sequence.
        format: what reads it.
        name: of the folder of its grid; no two assets of one search share it.
        source: repository or address it came from.
        licence: as its publisher names it.
        author: whom to credit.
    """

    path: Path
    format: AssetFormat
    name: str
    source: str | None = None
    licence: str | None = None
    author: str | None = None


def find_assets(paths: Iterable[str | Path], metadata: str | Path | None = None) -> list[Asset]:
    """Finds the assets in files and folders.

    Folders are searched to the bottom; what is hidden is left out, links to folders are not
    followed. An asset is named after its file; where several share that, after its folder, too.

    Args:
        paths: assets or folders of them.
        metadata: table of licences and sources, see `asset_origins`. If None, an `assets.csv` or
            `objects.jsonl` in a searched folder, a file's folder or the one above it.

    Returns:
        Each asset once, in the order of `paths` and sorted within a folder.

    Raises:
        InputError: a path does not exist or is of an unknown kind, a folder holds no asset, or a
            table is broken.
    """
    known = None if metadata is None else read_origins(metadata)
    tables: dict[Path, dict[Path, Origin]] = {}
    origins: dict[Path, Origin] = {}
    formats: dict[Path, AssetFormat] = {}
    for path in map(Path, paths):
        found = dict(_assets_at(path))
        formats |= found
        if known is None:
            table = find_table(path.resolve() if path.is_dir() else canonical(path).parent)
            if table is not None and table not in tables:
                tables[table] = read_origins(table)
            here = {} if table is None else tables[table]
        else:
            here = known
        origins |= {file: here[file] for file in found if file in here}
    return [
        Asset(path, formats[path], name, *origins.get(path, Origin()))
        for path, name in _unique_names(list(formats)).items()
    ]


def obj_frames(folder: Path) -> list[Path]:
    """The OBJ files of a sequence in the order of their numbers; empty if the folder holds none.

    A sequence is at least two files whose names differ only in the number at their end. A folder
    of several sequences is none, because nothing tells which one is meant.
    """
    numbered: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(r"(?!\.)(.*?)(\d+)\.obj", path.name, re.IGNORECASE | re.ASCII)
        if match is not None and path.is_file():
            numbered.setdefault(match[1].casefold(), []).append((int(match[2]), path))
    sequences = [frames for frames in numbered.values() if len(frames) > 1]
    return [path for _, path in sorted(sequences[0])] if len(sequences) == 1 else []


def _assets_at(path: Path) -> Iterator[tuple[Path, AssetFormat]]:
    if path.is_dir():
        found = list(_search(path.resolve()))
        if not found:
            raise InputError(f"no asset in this folder; known are {KNOWN}", path)
        yield from found
    elif not path.is_file():
        raise InputError("no such file or folder", path)
    elif path.suffix.lower() not in FORMATS:
        raise InputError(f"not an asset of a known kind; known are {KNOWN}", path)
    else:
        yield canonical(path), FORMATS[path.suffix.lower()]


def _search(folder: Path) -> Iterator[tuple[Path, AssetFormat]]:
    for place, subfolders, files in os.walk(folder, onerror=_raise):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        here = Path(place)
        if obj_frames(here):
            yield here, AssetFormat.obj
        for file in sorted(name for name in files if not name.startswith(".")):
            format = FORMATS.get(Path(file).suffix.lower())
            if format is not None and (here / file).is_file():
                yield here / file, format


def _raise(error: OSError) -> None:
    raise error


def _unique_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for each path, different also where file systems ignore case; keeps the order."""
    stems = {path: _safe_name(path.name if path.is_dir() else path.stem) for path in paths}
    uses = Counter(stem.casefold() for stem in stems.values())
    names = {path: stem for path, stem in stems.items() if uses[stem.casefold()] == 1}
    taken = {name.casefold() for name in names.values()}
    for path in sorted(stems.keys() - names.keys()):
        name = longer = _safe_name(f"{path.parent.name}-{stems[path]}")
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{longer}-{number}"
        names[path] = name
        taken.add(name.casefold())
    return {path: names[path] for path in paths}


def _safe_name(text: str) -> str:
    """The text as the name of a folder: letters, digits, `.`, `_` and `-`, no dot in front."""
    composed = unicodedata.normalize("NFC", text)  # some file systems hand accents out apart
    name = re.sub(r"[^\w.-]", "_", composed)
    name = re.sub(r"^\.", "_", name).encode()[:_NAME_BYTES].decode(errors="ignore")
    return name or "_"


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
