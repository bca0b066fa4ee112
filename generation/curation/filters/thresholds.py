"""Thresholds of the scores, and the reasons why a grid is rejected.

The defaults separate four good assets from degraded copies of them; the modules of the scores list
the numbers. Of 119 other assets, animated by artists and rendered at 128², they keep 100 and reject
tanks of which only the tracks move, fish that flop faster than the frame rate shows, and a few
sudden falls and jumps. They are lenient; stricter ones can be applied without scoring again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from generation.curation.filters.scoring import Scores


@dataclass(frozen=True)
class Thresholds:
    """Minimum and maximum of accepted scores; None disables a threshold.

    Attributes:
        min_coverage: minimum of `Scores.coverage`, a fraction of the image.
        max_cut_off: maximum of `Scores.cut_off`, a fraction of the images.
        min_sharpness: minimum of `Scores.sharpness`.
        max_clutter: maximum of `Scores.clutter`.
        max_grain: maximum of `Scores.grain`.
        min_lpips: minimum of `Scores.lpips`, if it is computed.
        max_lpips: maximum of `Scores.lpips`, if it is computed.
        min_motion: minimum of `Scores.motion`, a fraction of the object's diagonal per frame.
        max_motion: maximum of `Scores.peak_motion`, a fraction of the object's diagonal per frame.
        min_smoothness: minimum of `Scores.smoothness`.
        duplicate_distance: maximum number of bits in which the hashes of duplicates differ.
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
    """A score with its thresholds and the reasons for rejection below and above them."""

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


def rejection_reasons(scores: Scores, thresholds: Thresholds) -> tuple[str, ...]:
    """List the reasons to reject a grid, e.g. "hardly moves: motion 0.0004 < 0.0015"."""
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
        return tuple(reasons[:1])  # without an object, the other scores are meaningless
    return tuple(reasons)
