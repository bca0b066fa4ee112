"""How far a generation is, and whether it shall go on. What it does not know: who looks at it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from recon.errors import Interrupted


class Progress(NamedTuple):
    """How far a generation is.

    Attributes:
        stage: what is made, for people.
        step: steps made, of all passes together.
        steps: of all.
        seconds_left: estimate for the steps.
    """

    stage: str
    step: int
    steps: int
    seconds_left: float


class StepCounter:
    """Counts the steps of all runs of the sampler, tells them, and stops where it was asked to."""

    def __init__(
        self,
        steps: int,
        on_step: Callable[[Progress], None] | None,
        should_stop: Callable[[], bool] | None,
    ):
        self.steps = steps
        self.on_step = on_step or (lambda progress: None)
        self.should_stop = should_stop or (lambda: False)
        self.began: tuple[int, float] | None = None  # of this process: steps made before, and when

    def counting(self, stage: str, done: int) -> Callable[[int], None]:
        """What a run of the sampler tells its own steps to.

        Args:
            stage: what it makes, for people.
            done: steps of all that come before it.

        Returns:
            A function of the number of steps made; raises Interrupted where a stop was asked for.
        """
        first, began = self.began = self.began or (done, time.monotonic())

        def count(step: int) -> None:
            pace = (time.monotonic() - began) / (done + step - first)
            left = pace * (self.steps - done - step)
            self.on_step(Progress(stage, done + step, self.steps, left))
            if self.should_stop():
                raise Interrupted(
                    "stopped; the finished passes are saved, and the same command goes on after "
                    "them"
                )

        return count
