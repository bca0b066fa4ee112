"""Which scores are good enough: limits with defaults, and sentences about those that are not.

The defaults lie between four good assets and spoilt copies of them; the modules that measure have
the numbers. Of 119 other assets, animated by artists and rendered at 128², they keep 100: out go
tanks of which only the tracks move, fish that flop faster than the frame rate shows, and a few
sudden falls and jumps. They err towards keeping; tighter ones cost no new scores. What it does not
know: how scores come about.


----
Who is kept: limits, then duplicates, then the language model, each on what the last one left.

What it does not know: how scores come about, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from generation.curation.filters.completeness import Judgement
from generation.curation.filters.duplicates import find_duplicates
from generation.curation.filters.records import Record
from generation.curation.filters.scoring import Scores


@dataclass(frozen=True)
class Thresholds:
    """The least and the most of each score; None leaves a limit out.

    Attributes:
        min_coverage: share of an image that the object fills at least, in every frame.
        max_cut_off: share of the images in which the object may reach the border.
        min_sharpness: of its sharpest places.
        max_clutter: detail on the whole.
        max_grain: noise.
        min_lpips: distance to a quarter of the resolution, where it is measured.
        max_lpips: likewise.
        min_motion: mean displacement a frame, as a share of the object's diagonal.
        max_motion: displacement of the fastest parts in the fastest frame, likewise.
        min_smoothness: displacement over two frames divided by that over one.
        duplicate_distance: renders that differ in at most so many bits are duplicates.
    """

    min_coverage: float | None = 0.005
    max_cut_off: float | None = 0.25
    min_sharpness: float | None = 0.25
    max_clutter: float | None = 0.25
    max_grain: float | None = 0.07
    min_lpips: float | None = None
    max_lpips: float | None = None
    min_motion: float | None = 0.0015
    max_motion: float | None = 0.13
    min_smoothness: float | None = 1.15
    duplicate_distance: int | None = 16


class _Limit(NamedTuple):
    """A score, the two fields that limit it, and what is said of one outside."""

    score: str
    least: str | None
    too_small: str
    most: str | None
    too_large: str


_LIMITS = (
    _Limit("coverage", "min_coverage", "too little to be seen", None, ""),
    _Limit("cut_off", None, "", "max_cut_off", "cut off by the border"),
    _Limit("sharpness", "min_sharpness", "blurry", None, ""),
    _Limit("clutter", None, "", "max_clutter", "chaotic"),
    _Limit("grain", None, "", "max_grain", "noisy"),
    _Limit("lpips", "min_lpips", "without detail", "max_lpips", "chaotic"),
    _Limit("motion", "min_motion", "hardly moves", None, ""),
    _Limit("peak_motion", None, "", "max_motion", "moves too far in a frame"),
    _Limit("smoothness", "min_smoothness", "flickers or jumps", None, ""),
)


def decide(scores: Scores, thresholds: Thresholds) -> tuple[str, ...]:
    """Why a grid is not good enough; empty if it is.

    Returns:
        Sentences like "hardly moves: motion 0.0004 < 0.0015".
    """
    reasons = []
    for limit in _LIMITS:
        value = getattr(scores, limit.score)
        least = getattr(thresholds, limit.least) if limit.least else None
        most = getattr(thresholds, limit.most) if limit.most else None
        if value is not None and least is not None and value < least:
            reasons.append(f"{limit.too_small}: {limit.score} {value:.3g} < {least:g}")
        if value is not None and most is not None and value > most:
            reasons.append(f"{limit.too_large}: {limit.score} {value:.3g} > {most:g}")
    if scores.coverage == 0 and thresholds.min_coverage is not None:
        return tuple(reasons[:1])  # of nothing, the other numbers mean nothing
    return tuple(reasons)


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
