"""Search for animated 3D assets, and the licenses and sources that tables beside them record.

An asset is one file of a known format, or a folder of numbered OBJ files, one per frame. A table is
a CSV file with a column `file`, or JSON lines with the key `asset` or `file`, so that a
`manifest.jsonl` of rendered data is one as well. Files are named relative to the table's folder.
"""

from __future__ import annotations

import csv
import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from recon.errors import InputError


class AssetFormat(StrEnum):
    """File format of an asset."""

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
_NAME_BYTES = 120  # file names have at most 255, and unfinished grids a longer hidden name


@dataclass(frozen=True)
class Asset:
    """An animated 3D asset on this machine.

    Attributes:
        path: absolute path of the file, or of the folder of an OBJ sequence.
        format: file format.
        name: of its grid folder; unique in a search.
        source: repository or address.
        licence: license, as its publisher names it.
        author: name to credit.
    """

    path: Path
    format: AssetFormat
    name: str
    source: str | None = None
    licence: str | None = None
    author: str | None = None


def find_assets(paths: Iterable[str | Path], metadata: str | Path | None = None) -> list[Asset]:
    """Find the assets in files and folders.

    Folders are searched recursively, without hidden files and links to folders. An asset is named
    after its file, and after its folder as well where several files share a name.

    Args:
        paths: assets or folders of them.
        metadata: table of licenses and sources. If None, an `assets.csv` or `objects.jsonl` in a
            searched folder, a file's folder or the one above it.

    Returns:
        Each asset once, in the order of `paths` and sorted within a folder.

    Raises:
        InputError: a path does not exist or has an unknown format, a folder has no asset, or a
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
        for path, name in unique_names(list(formats)).items()
    ]


def obj_frames(folder: Path) -> list[Path]:
    """Return the OBJ files of a sequence in the order of their numbers; empty if there is none.

    A sequence is at least two files whose names differ only in the number at their end. A folder
    with several sequences is ambiguous and has none.
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
            raise InputError(f"no asset in this folder; known formats are {KNOWN}", path)
        yield from found
    elif not path.is_file():
        raise InputError.missing(path)
    elif path.suffix.lower() not in FORMATS:
        raise InputError(f"not a known asset format; known formats are {KNOWN}", path)
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


def unique_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Name each path uniquely, also for file systems that ignore case; keeps the order.

    Paths of the same stem are also named after their folder, or, if all are in one folder, after
    their suffix; they are numbered if need be.
    """
    stems = {path: _safe_name(path.name if path.is_dir() else path.stem) for path in paths}
    alike: dict[str, list[Path]] = defaultdict(list)
    for path, stem in stems.items():
        alike[stem.casefold()].append(path)
    names = {path: stem for path, stem in stems.items() if len(alike[stem.casefold()]) == 1}
    taken = {name.casefold() for name in names.values()}
    for path in sorted(stems.keys() - names.keys()):
        in_one_folder = len({other.parent for other in alike[stems[path].casefold()]}) == 1
        parts = (stems[path], path.suffix[1:]) if in_one_folder else (path.parent.name, stems[path])
        name = longer = _safe_name("-".join(parts))
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{longer}-{number}"
        names[path] = name
        taken.add(name.casefold())
    return {path: names[path] for path in paths}


def _safe_name(text: str) -> str:
    """Replace everything but letters, digits, `.`, `_` and `-`, and a leading dot."""
    composed = unicodedata.normalize("NFC", text)  # some file systems decompose accents
    name = re.sub(r"[^\w.-]", "_", composed)
    name = re.sub(r"^\.", "_", name).encode()[:_NAME_BYTES].decode(errors="ignore")
    return name or "_"


TABLE_NAMES = ("assets.csv", "objects.jsonl")


class Origin(NamedTuple):
    """Source and license of an asset, as far as they are known.

    Attributes:
        source: repository or address.
        licence: license, as its publisher names it.
        author: name to credit.
    """

    source: str | None = None
    licence: str | None = None
    author: str | None = None


def find_table(folder: Path) -> Path | None:
    """Return the table in a folder or in the one above it, if there is one."""
    candidates = [place / name for place in (folder, folder.parent) for name in TABLE_NAMES]
    return next((path for path in candidates if path.is_file()), None)


def read_origins(path: str | Path) -> dict[Path, Origin]:
    """Read a table of origins.

    Args:
        path: a .csv or .jsonl file.

    Returns:
        The origin of each file in the table, by `canonical` path.

    Raises:
        InputError: the table is missing, has another format, is broken, or contradicts itself.
    """
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise InputError("expected a .csv or .jsonl table of licenses and sources", path)
    if not path.is_file():
        raise InputError.missing(path)
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
    origins: dict[Path, Origin] = {}
    for line, row in rows:
        name = _text(row, ("file", "asset"), line, path)
        if name is None:
            raise InputError(f"line {line} has no file; expected the key `file` or `asset`", path)
        origin = Origin(
            source=_text(row, ("source", "source_repository"), line, path),
            licence=_text(row, ("licence",), line, path),
            author=_text(row, ("author",), line, path),
        )
        file = canonical(path.parent / name)
        if origins.setdefault(file, origin) != origin:
            raise InputError(f"line {line} contradicts an earlier line about {name}", path)
    return origins


def canonical(path: Path) -> Path:
    """Return the absolute path of a file; links to folders are resolved, a link to a file is not.

    Content-addressed stores link to files named by hashes, so only the link has name and suffix.
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
                    raise InputError(f"line {reader.line_num} has more cells than the header", path)
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
    """Return the string under the first of some keys that is not empty."""
    for key in keys:
        value = row.get(key)
        if value is None or value == "":
            continue
        if not isinstance(value, str) or "\0" in value:
            raise InputError(f"line {line}: expected a string as `{key}`, found {value!r}", path)
        return value.strip()
    return None
