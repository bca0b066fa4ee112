"""`manifest.jsonl` of a folder of rendered grids or baked assets: one JSON line for each asset.

Only the main process appends rows. If a name has several rows, the last one is valid. A row has the
fields of `Row`; all other keys are its facts. See `json_lines` for what a crash leaves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from generation.curation.json_lines import append_line, json_line, read_lines

MANIFEST_NAME = "manifest.jsonl"


class Status(StrEnum):
    """Result of processing an asset; rejected is final, failed may be temporary."""

    RENDERED = "rendered"
    BAKED = "baked"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True)
class Row:
    """The row of one asset.

    Attributes:
        name: name of its folder, which is beside the manifest.
        status: rendered or baked; rejected because of its content; or failed for another reason.
        asset: path of its file.
        source: repository or URL that it was downloaded from.
        licence: license under the name that its source uses.
        author: name to credit.
        clip: name of the rendered animation, or of the first baked one.
        clip_seconds: duration of that animation.
        seconds: processing time.
        reason: reason why it was rejected or failed.
        settings: JSON object of the settings that determine the result, to detect outdated rows.
        facts: other JSON keys of the row, none of them the name of a field.
    """

    name: str
    status: Status
    asset: str
    source: str | None = None
    licence: str | None = None
    author: str | None = None
    clip: str | None = None
    clip_seconds: float | None = None
    seconds: float = 0.0
    reason: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        assert not self.facts.keys() & KEYS.keys(), "a fact has the name of a field"


_TEXT, _NUMBER, _NOTHING = (str,), (int, float), (type(None),)
KEYS: dict[str, tuple[type, ...]] = {
    "name": _TEXT,
    "status": _TEXT,
    "asset": _TEXT,
    "source": _TEXT + _NOTHING,
    "licence": _TEXT + _NOTHING,
    "author": _TEXT + _NOTHING,
    "clip": _TEXT + _NOTHING,
    "clip_seconds": _NUMBER + _NOTHING,
    "seconds": _NUMBER,
    "reason": _TEXT + _NOTHING,
    "settings": (dict,),
}
REQUIRED = ("name", "status", "asset")


def is_final(row: Row | None, settings: Mapping[str, Any]) -> bool:
    """Return whether an asset was processed or rejected with the same settings.

    Args:
        row: the asset's last row, if there is one.
        settings: JSON object of the current settings.
    """
    if row is None or row.status is Status.FAILED:
        return False
    return row.settings == json.loads(json.dumps(settings))  # as written: tuples become lists


def read_rows(path: str | Path) -> dict[str, Row]:
    """Read the last row of each name; an absent file has no rows.

    Raises:
        InputError: a line is not a row, unless it is a truncated last line; the message names it.
    """
    return {row.name: row for row in read_lines(Path(path), parse_row)}


def append_row(path: str | Path, row: Row) -> None:
    """Append a row and flush it to disk; missing parent folders are created.

    Raises:
        OutputError: the settings or facts cannot be written as JSON.
        OSError: the file cannot be written.
    """
    append_line(Path(path), json_line(row_json(row), f"the row of {row.name}"), parse_row)


def row_json(row: Row) -> dict[str, Any]:
    """Return a row as a flat JSON object, with its facts after its fields."""
    keys = {each.name: getattr(row, each.name) for each in fields(row) if each.name != "facts"}
    return {**keys, **row.facts}


def parse_row(line: bytes) -> Row:
    """Parse a row; raise ValueError for anything else, including invalid JSON and UTF-8."""
    keys = json.loads(line)
    if not isinstance(keys, dict):
        raise ValueError(f"expected a JSON object, found {keys!r:.40}")
    for name, kinds in KEYS.items():
        if name not in keys and name not in REQUIRED:
            continue
        if not isinstance(keys.get(name), kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"expected {name!r} of type {expected}, found {keys.get(name)!r:.40}")
    if Path(keys["name"]).name != keys["name"] or keys["name"] in ("", ".."):
        raise ValueError(f"expected 'name' to be the name of a folder, found {keys['name']!r}")
    facts = {name: keys.pop(name) for name in list(keys) if name not in KEYS}
    return Row(**{**keys, "status": Status(keys["status"])}, facts=facts)
