"""Records of the grids of a folder, and the decision which grids are kept.

    grid ─▶ record (scores) ─▶ thresholds ─▶ duplicates ─▶ language model ─▶ verdict

A record is one JSON line with the scores of a grid. Scoring is slow, so a record is reused as long
as the grid's fingerprint and the key of the scoring settings are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from generation.curation.filters.completeness import Judgement
from generation.curation.filters.duplicates import find_duplicates
from generation.curation.filters.scoring import Scores
from generation.curation.filters.thresholds import Thresholds, rejection_reasons
from generation.curation.manifest import MANIFEST_NAME, Row, Status, read_rows
from recon.errors import InputError

TRANSFORMS_NAME = "transforms.json"


@dataclass(frozen=True)
class Candidate:
    """A grid to filter.

    Attributes:
        name: name of its folder.
        folder: path of its folder.
        row: its row in the manifest; None if there is none.
        fingerprint: hash that changes whenever the grid or its row changes.
    """

    name: str
    folder: Path
    row: Row | None
    fingerprint: str


@dataclass(frozen=True)
class Record:
    """Scores of a grid, or the reason why it could not be scored.

    Attributes:
        name: name of the grid's folder.
        fingerprint: fingerprint of the scored grid, see `Candidate`.
        settings: key of the scoring settings, see `settings_key`.
        scores: the scores; None if scoring failed.
        failure: reason why scoring failed; None if it succeeded.
        judgement: judgement of a language model; None if none was asked.
    """

    name: str
    fingerprint: str
    settings: str
    scores: Scores | None = None
    failure: str | None = None
    judgement: Judgement | None = None

    def holds_for(self, candidate: Candidate, settings: str) -> bool:
        """Return whether the record can be reused; failures are always retried."""
        known = (self.fingerprint, self.settings)
        return self.scores is not None and known == (candidate.fingerprint, settings)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Record:
        """Create a record from JSON, ignoring other keys; raise ValueError if keys are missing."""
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
            raise ValueError(f"expected the record of a grid, found {error!r}") from error


@dataclass(frozen=True)
class Verdict:
    """The decision about a grid.

    Attributes:
        record: record of the grid.
        reasons: reasons why it is rejected; empty if it is kept.
        duplicate_of: name of the kept grid that it duplicates; None if it is no duplicate.
    """

    record: Record
    reasons: tuple[str, ...] = ()
    duplicate_of: str | None = None

    @property
    def kept(self) -> bool:
        """Whether the grid is kept."""
        return not self.reasons

    def judged(self, judgement: Judgement) -> Verdict:
        """Add the judgement of a language model; without a verdict it gives no reason to reject."""
        reasons = self.reasons
        if judgement.complete is False:
            reasons += (f"not complete: {judgement.reason or 'the model gave no reason'}",)
        return replace(self, record=replace(self.record, judgement=judgement), reasons=reasons)


def verdicts_by_scores(records: Sequence[Record], thresholds: Thresholds) -> list[Verdict]:
    """Apply thresholds and reject near-duplicates, of which the first one is kept.

    Args:
        records: records in the order of precedence.
        thresholds: thresholds of the scores.

    Returns:
        The verdict about each record.
    """
    reasons = [_reasons(record, thresholds) for record in records]
    passed = [index for index, found in enumerate(reasons) if not found]
    originals: dict[int, int] = {}
    if thresholds.duplicate_distance is not None:
        hashes = [_render_hash(records[index]) for index in passed]
        near = find_duplicates(hashes, thresholds.duplicate_distance)
        originals = {passed[later]: passed[first] for later, first in near.items()}
    verdicts = []
    for index, record in enumerate(records):
        if index in originals:
            first = records[originals[index]].name
            verdicts.append(Verdict(record, (f"looks the same as {first}",), first))
        else:
            verdicts.append(Verdict(record, reasons[index]))
    return verdicts


def find_candidates(folder: Path) -> list[Candidate]:
    """Find the grids of a folder of rendered data, ordered by name.

    These are the folders with a `transforms.json`, and those that the manifest lists as rendered,
    even if they no longer exist.

    Raises:
        InputError: the folder does not exist, has no grid, or its manifest is not valid.
    """
    if not folder.exists():
        raise InputError.missing(folder)
    if not folder.is_dir():
        raise InputError("expected a folder, found a file", folder)
    rows = read_rows(folder / MANIFEST_NAME)
    found = {path.parent.name for path in folder.glob(f"*/{TRANSFORMS_NAME}")}
    names = {name for name in found if not name.startswith(".")}  # others are unfinished
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
    """Return a short hash of scoring settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def read_records(path: Path) -> Iterator[Record]:
    """Read the records of a file, which may be absent, truncated or of an older version."""
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for line in lines:
            try:
                yield parse_record(line)
            except ValueError:  # such grids are measured again
                continue


def parse_record(line: bytes) -> Record:
    """Parse a line; raise ValueError for anything but a record, including invalid UTF-8."""
    return Record.from_json(json.loads(line))


def _fingerprint(folder: Path, row: Row | None) -> str:
    """Hash the manifest row and the date of `transforms.json`, without reading images."""
    try:
        found = (folder / TRANSFORMS_NAME).stat()
        file = [found.st_size, found.st_mtime_ns]
    except OSError:
        file = []
    known = [folder.name, file, None if row is None else asdict(row)]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def _reasons(record: Record, thresholds: Thresholds) -> tuple[str, ...]:
    if record.scores is None:
        return (f"cannot be measured: {record.failure}",)
    return rejection_reasons(record.scores, thresholds)


def _render_hash(record: Record) -> bytes:
    assert record.scores is not None, "a grid without scores was rejected before"
    return bytes.fromhex(record.scores.render_hash)
