"""Progress of long computations: the argument of `on_step`, and the estimated time left."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

SMOOTHING = 0.98
WINDOW_SECONDS = 20.0
EVIDENCE_SECONDS = 5.0
STALL = 20.0  # times the usual duration: a single step that takes longer is a pause


class Progress(NamedTuple):
    """State of a long computation after one of its steps.

    Attributes:
        phase: what is being computed, e.g. "static", "fine frames 4–20" or "downloading".
        step: number of steps done, including those of the runs that were resumed.
        steps: total number of steps; None if unknown.
        seconds_left: estimated time for the remaining steps in seconds; None if unknown, as in the
            first seconds.
        metrics: current metrics by name, e.g. `{"psnr": 31.2, "gaussians": 9800}`.
    """

    phase: str
    step: int
    steps: int | None
    seconds_left: float | None = None
    metrics: Mapping[str, float] = {}


OnStep = Callable[[Progress], None]
"""Called after every step."""

ShouldStop = Callable[[], bool]
"""Called after every step; True saves the state and raises `recon.errors.Interrupted`."""


class Eta:
    """Elapsed time of a computation and an exponentially smoothed estimate of the time left.

    The estimate uses the bias-corrected exponential moving average of the step duration: a plain
    mean at first, which later follows changes of speed. The average covers about the last
    `1 / (1 - smoothing)` steps, or the last 20 seconds if they had more steps, and a step counts at
    most 20 times the average or the step before, so that a pause of the machine does not matter,
    but a lasting change of speed does. The first step, which often includes the warm-up of
    kernels and caches, counts only until a second one is finished. There is no estimate of the time
    left before 5 seconds of steps have been measured.

    Where the expected durations of steps are known to differ, each counts as its relative cost.

    Args:
        steps_left: number of remaining steps, or the sum of their costs.
        seconds_before: duration of earlier, interrupted runs in seconds.
        smoothing: weight of the past in the moving average, in [0, 1).
    """

    def __init__(
        self, steps_left: float, seconds_before: float = 0.0, smoothing: float = SMOOTHING
    ) -> None:
        self.steps_left = steps_left
        self._seconds_before = seconds_before
        self._smoothing = smoothing
        self._start = self._last = time.monotonic()
        self._weighted_seconds = self._weighted_steps = self._measured = self._last_rate = 0.0
        self._ticks = 0

    def tick(self, steps: float = 1) -> None:
        """Count finished steps, or the cost of one; call it right after them."""
        now = time.monotonic()
        if self._ticks == 1:  # the first step was not typical
            self._weighted_seconds = self._weighted_steps = 0.0
        seconds = now - self._last
        if self._ticks:
            self._measured += seconds
        self._ticks += 1
        rate, self._last_rate = self._last_rate, seconds / steps
        if self._measured >= EVIDENCE_SECONDS:
            seconds = min(seconds, STALL * max(rate, self.seconds_per_step) * steps)
        decay = max(self._smoothing**steps, math.exp(-seconds / WINDOW_SECONDS))
        self._weighted_seconds = decay * self._weighted_seconds + seconds
        self._weighted_steps = decay * self._weighted_steps + steps
        self._last, self.steps_left = now, self.steps_left - steps

    @property
    def seconds(self) -> float:
        """Elapsed seconds up to the last tick, earlier runs included."""
        return self._seconds_before + self._last - self._start

    @property
    def seconds_per_step(self) -> float:
        """Smoothed duration of a step in seconds; 0 before the first tick."""
        return self._weighted_seconds / self._weighted_steps if self._weighted_steps else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds for the remaining steps; None while there is too little evidence."""
        if self.steps_left <= 0:
            return 0.0
        if self._measured < EVIDENCE_SECONDS:
            return None
        return self.seconds_per_step * self.steps_left


class Whole:
    """Progress of a computation of several parts, as hundredths of the whole.

    Wholes can be nested: the `on_step` of a part can be that of another one.

    Args:
        costs: expected duration of each part by name, in the order of the parts, in any unit.
        on_step: called with the progress of the whole.
    """

    STEPS = 100

    def __init__(self, costs: Mapping[str, float], on_step: OnStep):
        ends = itertools.accumulate(costs.values())
        self._ends = dict(zip(costs, ends, strict=True))
        self._costs = costs
        self._total = sum(costs.values())
        self._on_step = on_step
        self._eta = Eta(self._total)

    def part(self, name: str) -> OnStep:
        """Return the `on_step` of a part, for any number of steps; the whole never goes back."""
        end, cost = self._ends[name], self._costs[name]

        def report(step: Progress) -> None:
            share = step.step / step.steps if step.steps else 0.0
            self._report(step, end - cost * (1 - share))

        return report

    def finish(self, phase: str) -> None:
        """Report that all parts are done."""
        self._report(Progress(phase, 0, None), self._total)

    def _report(self, step: Progress, done: float) -> None:
        before = self._total - self._eta.steps_left
        if done > before:
            self._eta.tick(done - before)
        done = max(done, before)
        hundredths = int(self.STEPS * done / self._total)
        left = self._eta.seconds_left
        self._on_step(Progress(step.phase, hundredths, self.STEPS, left, step.metrics))


def ignore_progress(progress: Progress) -> None:
    """Do nothing; the default of `on_step`."""


def never_stop() -> bool:
    """Return False; the default of `should_stop`."""
    return False
