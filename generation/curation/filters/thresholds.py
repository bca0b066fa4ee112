"""Which scores are good enough: limits with defaults, and sentences about those that are not.

The defaults lie between four good assets and spoilt copies of them; the modules that measure have
the numbers. Of 119 other assets, animated by artists and rendered at 128², they keep 100: out go
tanks of which only the tracks move, fish that flop faster than the frame rate shows, and a few
sudden falls and jumps. They err towards keeping; tighter ones cost no new scores. What it does not
know: how scores come about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from generation.curation.filters.scores import Scores


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
