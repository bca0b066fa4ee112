"""What is known of each grid, a line of JSON each, and which of it still holds.

Scores cost time, limits do not: so a record holds what was measured and said of a grid, together
with a fingerprint of the grid and a key of the settings, and is used again while both are the same.
What it does not know: what is good, who is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from generation.curation.filters.completeness import Judgement
from generation.curation.filters.scoring import Scores
from generation.curation.manifest import MANIFEST_NAME, Row, Status, read_rows
from recon.errors import InputError

TRANSFORMS_NAME = "transforms.json"


@dataclass(frozen=True)
class Candidate:
    """A grid to be filtered.

    Attributes:
        name: of its folder.
        folder: where it is.
        row: of the manifest, where there is one.
        fingerprint: another one means that grid or row have changed.
    """

    name: str
    folder: Path
    row: Row | None
    fingerprint: str


@dataclass(frozen=True)
class Record:
    """What is known of a grid.

    Attributes:
        name: of its folder.
        fingerprint: of the grid that was measured.
        settings: key of those it was measured with.
        scores: None if it could not be measured.
        failure: sentence why not.
        judgement: of a language model, where one was asked.
    """

    name: str
    fingerprint: str
    settings: str
    scores: Scores | None = None
    failure: str | None = None
    judgement: Judgement | None = None

    def holds_for(self, candidate: Candidate, settings: str) -> bool:
        """Whether it may be used again; a failure is always tried once more."""
        known = (self.fingerprint, self.settings)
        return self.scores is not None and known == (candidate.fingerprint, settings)

    def to_json(self) -> dict[str, Any]:
        """Its line."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Record:
        """What `to_json` made, further keys left aside; ValueError if it is anything else."""
        try:
            scores, judgement = values["scores"], values["judgement"]
            return cls(
                name=values["name"],
                fingerprint=values["fingerprint"],
                settings=values["settings"],
                scores=None if scores is None else Scores.from_json(scores),
                failure=values["failure"],
                judgement=None if judgement is None else Judgement.from_json(judgement),
            )
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"not a record: {error!r}") from error


def find_candidates(folder: Path) -> list[Candidate]:
    """The grids of a folder of rendered data, by name.

    Those are its folders with a `transforms.json`, and what the manifest says is rendered, even if
    it is gone.

    Raises:
        InputError: there is no such folder, no grid in it, or its manifest is not valid.
    """
    if not folder.is_dir():
        raise InputError("there is no such folder", folder)
    rows = read_rows(folder / MANIFEST_NAME)
    found = {path.parent.name for path in folder.glob(f"*/{TRANSFORMS_NAME}")}
    names = {name for name in found if not name.startswith(".")}  # others are being written
    names |= {row.name for row in rows.values() if row.status is Status.RENDERED}
    if not names:
        raise InputError(
            f"expected grid folders with {TRANSFORMS_NAME}, found none; "
            "`fourdvd data render` makes them",
            folder,
        )
    return [
        Candidate(name, folder / name, row, _fingerprint(folder / name, row))
        for name, row in ((name, rows.get(name)) for name in sorted(names))
    ]


def settings_key(settings: dict[str, Any]) -> str:
    """A short name for settings; equal for equal ones only."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file that may be absent, torn at its end or of an older version."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                yield Record.from_json(json.loads(line))
            except ValueError:  # what cannot be read is measured again
                continue


def _fingerprint(folder: Path, row: Row | None) -> str:
    """Of what changes when a grid is rendered again, without reading its images."""
    try:
        found = (folder / TRANSFORMS_NAME).stat()
        file = [found.st_size, found.st_mtime_ns]
    except OSError:
        file = []
    known = [folder.name, file, None if row is None else asdict(row)]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
