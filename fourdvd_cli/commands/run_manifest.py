"""`manifest.jsonl` of `fourdvd run` with several inputs: one JSON line for each.

Only the main process appends rows. If a name has several rows, the last one is valid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from generation.curation.json_lines import append_line, json_line, read_lines

MANIFEST = "manifest.jsonl"  # in the folder of a batch
WEIGHTS = "weights"  # key of a row's settings


class ClipStatus(StrEnum):
    """Result of a run; rejected holds until the input changes, failed may be temporary."""

    FINISHED = "finished"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True)
class ClipRow:
    """The row of one input.

    Attributes:
        name: name of its folder, which is beside the manifest.
        status: finished; rejected because the input is not valid; or failed for another reason.
        input: absolute path of the input.
        seconds: duration of the last attempt.
        steps: seconds of each finished step, those of earlier attempts included, by name.
        attempts: number of workers that the run was given to; above 1 if some were lost.
        machine: host name of the worker; None if it was lost.
        reason: why it was rejected or failed.
        warnings: what is doubtful about the result.
        settings: JSON object of the settings, to detect outdated rows.
        input_stamp: names, sizes and times of change of the input, see `run_input.input_stamp`.
    """

    name: str
    status: ClipStatus
    input: str
    seconds: float = 0.0
    steps: Mapping[str, float] = field(default_factory=dict)
    attempts: int = 1
    machine: str | None = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    input_stamp: str | None = None


def is_final(row: ClipRow, source: Path, stamp: str | None, settings: Mapping[str, Any]) -> bool:
    """Return whether an input was finished or rejected as it is, with the same settings.

    Args:
        row: row of an earlier command.
        source: absolute path of the input.
        stamp: its `run_input.input_stamp`.
        settings: JSON object of the settings; the "weights" in it are only compared if both know
            them, as rows of older manifests do not.
    """
    if row.status is ClipStatus.FAILED or row.input != str(source) or row.input_stamp != stamp:
        return False
    found, wanted = dict(row.settings), json.loads(json.dumps(settings))  # tuples become lists
    if None in (found.get(WEIGHTS), wanted.get(WEIGHTS)):
        found[WEIGHTS] = wanted[WEIGHTS] = None
    return found == wanted


def read_rows(path: Path) -> dict[str, ClipRow]:
    """Read the last row of each name; an absent file has no rows.

    Raises:
        InputError: a line is not a row, unless it is a truncated last line; the message names it.
    """
    return {row.name: row for row in read_lines(path, _parse)}


def append_row(path: Path, row: ClipRow) -> None:
    """Append a row and flush it to disk.

    Raises:
        OSError: the file cannot be written.
    """
    append_line(path, json_line(asdict(row), f"the row of {row.name}"), _parse)


def _parse(line: bytes) -> ClipRow:
    """Parse a row; raise ValueError for anything else."""
    keys = json.loads(line)
    if not isinstance(keys, dict):
        raise ValueError(f"expected a JSON object, found {keys!r:.40}")
    for name in ("name", "status", "input"):
        if not isinstance(keys.get(name), str):
            raise ValueError(f"expected {name!r} of type str, found {keys.get(name)!r:.40}")
    keys.pop("input_changed", None)  # the stamp of older manifests
    if unknown := keys.keys() - {each.name for each in fields(ClipRow)}:
        raise ValueError(f"found the unknown key {min(unknown)!r}")
    warnings = tuple(map(str, keys.pop("warnings", ())))
    return ClipRow(**keys | {"status": ClipStatus(keys["status"]), "warnings": warnings})
