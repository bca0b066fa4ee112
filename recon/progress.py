"""Progress of long work: what an `on_step` callback receives, and the estimated time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

SMOOTHING = 0.98


class Progress(NamedTuple):
    """State of a long computation after one of its steps.

    Attributes:
        phase: what is being computed, e.g. "static", "fine frames 4–20" or "downloading".
        step: steps done, counted from the very beginning, resumed runs included.
        steps: steps in total; None if unknown.
        seconds_left: estimate for the remaining steps; None if unknown.
        metrics: the numbers that matter, by name, e.g. `{"psnr": 31.2, "gaussians": 9800}`.
    """

    phase: str
    step: int
    steps: int | None
    seconds_left: float | None = None
    metrics: Mapping[str, float] = {}


OnStep = Callable[[Progress], None]
"""Called after every step."""

ShouldStop = Callable[[], bool]
"""Asked after every step; True saves the state and raises `recon.errors.Interrupted`."""


class Eta:
    """Elapsed time of a computation and an exponentially smoothed estimate of the time left.

    The estimate is the bias-corrected moving average of the duration of a step, so it is the plain
    mean at first and follows later changes of speed.

    Args:
        steps_left: steps that remain.
        seconds_before: time that earlier, interrupted runs took.
        smoothing: weight of the past in the moving average, in [0, 1).
    """

    def __init__(
        self, steps_left: int, seconds_before: float = 0.0, smoothing: float = SMOOTHING
    ) -> None:
        self.steps_left = steps_left
        self._seconds_before = seconds_before
        self._smoothing = smoothing
        self._start = self._last = time.monotonic()
        self._weighted_seconds = self._weight = 0.0

    def tick(self, steps: int = 1) -> None:
        """Counts finished steps; called right after them."""
        now = time.monotonic()
        decay = self._smoothing**steps
        per_step = (now - self._last) / steps
        self._weighted_seconds = decay * self._weighted_seconds + (1 - decay) * per_step
        self._weight = decay * self._weight + (1 - decay)
        self._last, self.steps_left = now, self.steps_left - steps

    @property
    def seconds(self) -> float:
        """Time up to the last tick, earlier runs included."""
        return self._seconds_before + self._last - self._start

    @property
    def seconds_per_step(self) -> float:
        """Smoothed duration of a step; 0 before the first tick."""
        return self._weighted_seconds / self._weight if self._weight else 0.0

    @property
    def seconds_left(self) -> float:
        """Estimate for the steps that remain."""
        return self.seconds_per_step * self.steps_left


def ignore_progress(progress: Progress) -> None:
    """The `OnStep` that does nothing."""


def never_stop() -> bool:
    """The `ShouldStop` that never stops."""
    return False
