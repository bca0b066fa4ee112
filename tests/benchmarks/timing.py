"""Times of programs that are to be compared: taken in turns, so that noise hits all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one thing.

    Attributes:
        samples: milliseconds, at least one.
    """

    samples: tuple[float, ...]

    @property
    def minimum(self) -> float:
        return min(self.samples)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def __str__(self) -> str:
        return f"{three_digits(self.minimum)} ({three_digits(self.median)})"


def timing(samples: Iterable[float]) -> Timing:
    """Of measurements in milliseconds."""
    return Timing(tuple(samples))


def three_digits(value: float) -> str:
    """As text with three digits, more where there are more before the point."""
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def in_turns(cases: Mapping[str, Callable[[], Sample]], repeats: int) -> dict[str, list[Sample]]:
    """Results of calling each case once in each of `repeats` rounds."""
    results: dict[str, list[Sample]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, run in cases.items():
            results[name].append(run())
    return results
