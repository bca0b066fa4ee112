"""Who is kept: limits, then duplicates, then the language model, each on what the last one left.

What it does not know: how scores come about, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from generation.curation.filters.completeness import Judgement
from generation.curation.filters.duplicates import find_duplicates
from generation.curation.filters.records import Record
from generation.curation.filters.thresholds import Thresholds, decide


@dataclass(frozen=True)
class Verdict:
    """What becomes of a grid.

    Attributes:
        record: what is known of it.
        reasons: why it is rejected; empty if it is kept.
        duplicate_of: name of the kept grid that looks the same.
    """

    record: Record
    reasons: tuple[str, ...] = ()
    duplicate_of: str | None = None

    @property
    def kept(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


def verdicts_by_scores(records: Sequence[Record], thresholds: Thresholds) -> list[Verdict]:
    """By limits and duplicates; of those that look the same, the first that passes stays.

    Args:
        records: in the order of precedence.
        thresholds: the limits.
    """
    reasons = [_reasons(record, thresholds) for record in records]
    passed = [index for index, found in enumerate(reasons) if not found]
    originals: dict[int, int] = {}
    if thresholds.duplicate_distance is not None:
        hashes = [_hash(records[index]) for index in passed]
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


def with_judgement(verdict: Verdict, judgement: Judgement) -> Verdict:
    """The verdict once a model was asked; an answer without a verdict changes nothing."""
    against = ()
    if judgement.complete is False:
        against = (f"not complete: {judgement.reason or 'the model gave no reason'}",)
    record = replace(verdict.record, judgement=judgement)
    return replace(verdict, record=record, reasons=verdict.reasons + against)


def _reasons(record: Record, thresholds: Thresholds) -> tuple[str, ...]:
    if record.scores is None:
        return (f"cannot be measured: {record.failure}",)
    return decide(record.scores, thresholds)


def _hash(record: Record) -> bytes:
    assert record.scores is not None, "what was not measured has not passed"
    return bytes.fromhex(record.scores.render_hash)
