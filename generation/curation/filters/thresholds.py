"""Thresholds of the scores, and the reasons why a grid is outside of them.

The defaults separate four good assets from degraded copies of them; the modules that measure list
the numbers. Of 119 other assets, animated by artists and rendered at 128², they keep 100 and reject
tanks of which only the tracks move, fish that flop faster than the frame rate shows, and a few
sudden falls and jumps. They are lenient; stricter ones need no new scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from generation.curation.filters.scoring import Scores


@dataclass(frozen=True)
class Thresholds:
    """Least and largest accepted scores; None disables a threshold.

    Attributes:
        min_coverage: fraction of an image that the object covers at least, in every frame.
        max_cut_off: fraction of the images in which the object may reach the border.
        min_sharpness: detail of the sharpest places.
        max_clutter: mean detail.
        max_grain: noise.
        min_lpips: LPIPS to a quarter of the resolution, where it is measured.
        max_lpips: LPIPS to a quarter of the resolution, where it is measured.
        min_motion: mean displacement per frame, as a fraction of the object's diagonal.
        max_motion: displacement of the fastest parts in the fastest frame, in the same unit.
        min_smoothness: displacement over two frames divided by that over one.
        duplicate_distance: renders that differ in at most this number of bits are duplicates.
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
    """A score, and the threshold and the reason at either end."""

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
    """List why a grid is rejected, such as "hardly moves: motion 0.0004 < 0.0015"; may be ()."""
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
