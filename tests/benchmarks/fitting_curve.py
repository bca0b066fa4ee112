"""Run one fit and record its held-out quality over the seconds spent fitting.

The time of evaluations is excluded, that of the initial Gaussians (visual hull) included. `measure`
runs in its own process, so that its peak memory is that of one fit.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from recon.evaluation import Evaluation, evaluate_scene
from recon.fitting.config import FitConfig
from recon.fitting.fit import Fit
from recon.grid import Grid, read_grid
from recon.scene import Scene
from tests.benchmarks import harness

REHEARSALS = 60, 240  # iterations of shortened schedules, to estimate the time of a fit
MIB = 2**20


@dataclass(frozen=True)
class Curve:
    """Result of one fit.

    Attributes:
        seconds: fitting time at each evaluation, ascending; the last one is the end of the fit.
        psnr: held-out PSNR at these times, mean over the images, dB.
        final: the last evaluation.
        iterations: total number.
        gaussians: N at the end.
        peak_mib: peak RSS of the process, evaluations included, MiB.
        peak_gpu_mib: peak memory of tensors on the GPU, MiB; None without one.
    """

    seconds: tuple[float, ...]
    psnr: tuple[float, ...]
    final: Evaluation
    iterations: int
    gaussians: int
    peak_mib: float
    peak_gpu_mib: float | None

    def psnr_at(self, seconds: float) -> float | None:
        """Held-out PSNR of the first evaluation at `seconds` or later; None if there is none."""
        return next((p for t, p in zip(self.seconds, self.psnr, strict=True) if t >= seconds), None)

    def seconds_to(self, psnr: float) -> float | None:
        """Seconds until `psnr` was reached, interpolated between evaluations; None if never."""
        above = next((i for i, found in enumerate(self.psnr) if found >= psnr), None)
        if not above:
            return None if above is None else self.seconds[0]
        around = slice(above - 1, above + 1)
        return float(np.interp(psnr, self.psnr[around], self.seconds[around]))


def measure(path: Path, config: FitConfig, every_s: float, budget_s: float | None) -> Curve:
    """Fit a grid and evaluate it on the way.

    Args:
        path: grid with a test split.
        config: settings of the fit.
        every_s: seconds of fitting between evaluations; the end is always evaluated.
        budget_s: seconds that the fit should take; sets the number of iterations. None keeps the
            number of `config`.
    """
    harness.use_threads(config.threads)
    train, test = read_grid(path), read_grid(path, "test")
    if budget_s is not None:
        config = replace(config, iterations=iterations_in(budget_s, train, config))
    clock, due_s = Clock(), every_s
    fit = Fit(train, config)
    seconds: list[float] = []
    evaluations: list[Evaluation] = []
    while not fit.done:
        fit.step()
        if fit.done or clock.seconds >= due_s:
            with clock.paused():
                seconds.append(clock.seconds)
                evaluations.append(evaluate_scene(scene_of(fit), test, config.device))
                report(fit, seconds[-1], evaluations[-1])
            due_s = every_s * (clock.seconds // every_s + 1)
    return Curve(
        tuple(seconds),
        tuple(evaluation.psnr for evaluation in evaluations),
        evaluations[-1],
        config.iterations,
        len(fit.gaussians.means),
        peak_mib(),
        torch.cuda.max_memory_allocated() / MIB if config.device == "cuda" else None,
    )


class Clock:
    """Stopwatch in seconds that can be paused."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._paused_at: float | None = None

    @property
    def seconds(self) -> float:
        now = self._paused_at if self._paused_at is not None else time.monotonic()
        return now - self._start

    def paused(self) -> Clock:
        """Context in which the clock is paused."""
        return self

    def __enter__(self) -> None:
        self._paused_at = time.monotonic()

    def __exit__(self, *_: object) -> None:
        assert self._paused_at is not None
        self._start += time.monotonic() - self._paused_at
        self._paused_at = None


def iterations_in(budget_s: float, grid: Grid, config: FitConfig) -> int:
    """Estimate how many iterations a fit does in some seconds, at least 1.

    Two short fits through the whole schedule, with the final number of Gaussians, tell the time of
    an iteration from that of the frames that join, which does not depend on the iterations.
    """
    few, many = REHEARSALS
    few_s, many_s = (_rehearsal_seconds(grid, config, iterations) for iterations in REHEARSALS)
    each_s = max(many_s - few_s, 0.1 * many_s) / (many - few)
    return max(1, few + round((budget_s - few_s) / each_s))


def _rehearsal_seconds(grid: Grid, config: FitConfig, iterations: int) -> float:
    start = time.monotonic()
    fit = Fit(grid, replace(config, iterations=iterations, initial_gaussians=config.max_gaussians))
    while not fit.done:
        fit.step()
    return time.monotonic() - start


def scene_of(fit: Fit) -> Scene:
    """Build the scene at the current iteration."""
    return Scene(*fit.result(), fit.grid.times, fit.grid.cameras, fit.grid.fps)


def peak_mib() -> float:
    """Peak RSS of this process in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def report(fit: Fit, seconds: float, evaluation: Evaluation) -> None:
    print(
        f"  {seconds:6.1f} s  {fit.iteration}/{fit.config.iterations}  {evaluation.psnr:.2f} dB",
        file=sys.stderr,
        flush=True,
    )
