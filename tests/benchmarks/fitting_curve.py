"""One fit, and how good it was when: held-out quality against the seconds that were spent fitting.

Evaluations are not counted; the initial Gaussians (visual hull) are. `measure` is called in a
process of its own, so that its peak memory is that of one fit.
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
from tests.benchmarks import machine

REHEARSAL = 60  # iterations of the whole schedule in small, to find out how long one takes
MIB = 2**20


@dataclass(frozen=True)
class Curve:
    """What one fit did.

    Attributes:
        seconds: of fitting at each evaluation, ascending; the last one is the end.
        psnr: held-out, mean over the images, dB, at these times.
        final: the last evaluation.
        iterations: in all.
        gaussians: N at the end.
        peak_mib: largest resident memory of the process, evaluations included.
        peak_gpu_mib: likewise of the tensors on the GPU; None without one.
    """

    seconds: tuple[float, ...]
    psnr: tuple[float, ...]
    final: Evaluation
    iterations: int
    gaussians: int
    peak_mib: float
    peak_gpu_mib: float | None

    def psnr_at(self, seconds: float) -> float | None:
        """Held-out PSNR of the first evaluation at `seconds` or later, None if there was none."""
        return next((p for t, p in zip(self.seconds, self.psnr, strict=True) if t >= seconds), None)

    def seconds_to(self, psnr: float) -> float | None:
        """When it was reached first, interpolated between evaluations; None if it never was."""
        above = next((i for i, found in enumerate(self.psnr) if found >= psnr), None)
        if not above:
            return None if above is None else self.seconds[0]
        around = slice(above - 1, above + 1)
        return float(np.interp(psnr, self.psnr[around], self.seconds[around]))


def measure(path: Path, config: FitConfig, every_s: float, budget_s: float | None) -> Curve:
    """Fits and evaluates on the way.

    Args:
        path: a grid with a test split.
        config: of the fit.
        every_s: seconds of fitting between two evaluations; the end is evaluated anyway.
        budget_s: seconds into which the whole schedule is fitted by the number of its iterations;
            None keeps that of `config`.
    """
    machine.use_threads(config.threads)
    train, test = read_grid(path), read_grid(path, "test")
    if budget_s is not None:
        iterations = max(1, round(budget_s / seconds_per_iteration(train, config)))
        config = replace(config, iterations=iterations)
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
    """Seconds since it was made, without those in which it was paused."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._paused_at: float | None = None

    @property
    def seconds(self) -> float:
        now = self._paused_at if self._paused_at is not None else time.monotonic()
        return now - self._start

    def paused(self) -> Clock:
        """A context in which it stands still."""
        return self

    def __enter__(self) -> None:
        self._paused_at = time.monotonic()

    def __exit__(self, *_: object) -> None:
        assert self._paused_at is not None
        self._start += time.monotonic() - self._paused_at
        self._paused_at = None


def seconds_per_iteration(grid: Grid, config: FitConfig) -> float:
    """Mean over a short fit that goes through all stages with the final number of Gaussians."""
    fit = Fit(grid, replace(config, iterations=REHEARSAL, initial_gaussians=config.gaussians))
    fit.step()  # not counted: it loads libraries
    start = time.monotonic()
    while not fit.done:
        fit.step()
    return (time.monotonic() - start) / (REHEARSAL - 1)


def scene_of(fit: Fit) -> Scene:
    """The scene as it is now."""
    return Scene(
        fit.gaussians.map(torch.Tensor.detach),
        fit.deformation,
        fit.grid.times,
        fit.grid.cameras,
        fit.grid.fps,
    )


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def report(fit: Fit, seconds: float, evaluation: Evaluation) -> None:
    print(
        f"  {seconds:6.1f} s  {fit.iteration}/{fit.config.iterations}  {evaluation.psnr:.2f} dB",
        file=sys.stderr,
        flush=True,
    )
