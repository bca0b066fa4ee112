"""Time the parts of one iteration of a fit for several image sizes.

    python -m tests.benchmarks.fit_step [GRID] [--size 64 128 160]

The iteration is assembled here from the parts that `recon.fitting.fit` uses, so that each can be
timed: some views of one time over random backgrounds. Densification is rare and left out.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from recon.activations import activated
from recon.deformation import motion_models
from recon.deformation.interface import deformation_class
from recon.fitting.adam import Adam
from recon.fitting.config import FitConfig, fit_config
from recon.fitting.fit import Fit
from recon.fitting.image_pyramid import ImageLevel
from recon.gaussians import Gaussians
from recon.grid import Grid, read_grid
from recon.losses import image_loss
from recon.rasterizers import rasterize
from tests.benchmarks import harness
from tests.benchmarks.harness import Timing, three_digits, timing

EXAMPLE = Path(__file__).parents[2] / "examples" / "robot"
WARM_UP = 5  # iterations that are not counted
PARTS = ("deformation", "rasterizer", "loss", "backward", "optimizer")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fit_step")
    parser.add_argument("grid", nargs="?", type=Path, default=EXAMPLE, help="default: %(default)s")
    parser.add_argument("--size", nargs="+", type=int, default=[64, 128, 160], dest="sizes",
                        help="longer edges in pixels (default: 64 128 160)")  # fmt: skip
    parser.add_argument("--motion", choices=sorted(motion_models), default=None,
                        help="motion model (default: that of a fit)")  # fmt: skip
    parser.add_argument("--repeats", type=int, default=40, help="iterations (default: %(default)s)")
    harness.add_options(parser, "fit-step")
    options = parser.parse_args(arguments)
    harness.use_threads(0)
    grid = read_grid(options.grid)
    config = fit_config(motion=options.motion)
    config = replace(config, initial_gaussians=config.max_gaussians)
    iteration = Iteration(grid, config)
    timings = {}
    for size in sorted({min(size, max(grid.height, grid.width)) for size in options.sizes}):
        print(f"fit step: {size}²", file=sys.stderr, flush=True)
        timings[size] = iteration.measure(size, options.repeats)
    harness.publish(options.section, section(timings, config, options.grid.name), options.page)


class Iteration:
    """One iteration of a fit, in timed parts.

    Args:
        grid: training images.
        config: settings of the fit; N is its `initial_gaussians`.
    """

    def __init__(self, grid: Grid, config: FitConfig):
        self.grid, self.config = grid, config
        fit = Fit(grid, config)
        self.pyramid = fit.pyramid
        self.gaussians: Gaussians = fit.gaussians
        times = [float(time) for time in grid.times]
        self.deformation = deformation_class(config.motion).for_fit(self.gaussians, times)
        groups = [{"params": list(self.gaussians)}, *self.deformation.parameter_groups()]
        # a learning rate so small that all iterations see about the same Gaussians
        groups = [group | {"lr": 1e-6} for group in groups]
        self.optimizer = Adam(groups)
        self.rng = np.random.default_rng(config.seed)

    def measure(self, size: int, repeats: int) -> dict[str, Timing]:
        """Measure the milliseconds of each part with images of `size` pixels."""
        level = self.pyramid.level(size)
        for _ in range(WARM_UP):
            self.run(level, Stopwatch())
        watch = Stopwatch()
        for _ in range(repeats):
            self.run(level, watch)
        return {part: timing(watch.elapsed_ms[part]) for part in PARTS}

    def run(self, level: ImageLevel, watch: Stopwatch) -> None:
        """Run one iteration at a random time."""
        frame = int(self.rng.integers(self.grid.T))
        images = self.rng.permutation(self.grid.at_frame(frame))[: self.config.views_per_step]
        backgrounds, time = torch.rand(len(images), 3), float(self.grid.times[frame])
        with watch("deformation"):
            moved = self.deformation(self.gaussians, time)
            penalty = self.deformation.regularization(self.gaussians, time)
        with watch("rasterizer"):
            viewmats, Ks = level.viewmats[images], level.Ks[images]
            rendering = rasterize(
                moved.means, moved.quats, *activated(moved, viewmats), viewmats, Ks,
                level.height, level.width, backgrounds,
            )  # fmt: skip
        with watch("loss"):
            loss = image_loss(
                rendering.rgb, rendering.alpha, [level.images[i] for i in images], backgrounds,
                level.boxes[images], torch.ones(len(images)), self.config.loss_weights,
            )  # fmt: skip
        with watch("backward"):
            self.optimizer.zero_grad()
            (loss.total + penalty).backward()
        with watch("optimizer"):
            self.optimizer.step()


class Stopwatch:
    """Milliseconds of named code sections, one number per run."""

    def __init__(self) -> None:
        self.elapsed_ms: dict[str, list[float]] = defaultdict(list)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.elapsed_ms[name].append(1e3 * (time.perf_counter() - start))


def section(timings: dict[int, dict[str, Timing]], config: FitConfig, grid: str) -> str:
    """Format the section of docs/benchmarks.md."""
    totals = {size: sum(part.median for part in found.values()) for size, found in timings.items()}
    rows = [
        [part, *(share(timings[size][part].median, totals[size]) for size in timings)]
        for part in PARTS
    ]
    rows.append(["all", *(f"{three_digits(total)} ms" for total in totals.values())])
    header = ["an iteration's time", *(f"{size}²" for size in timings)]
    caption = (
        f"Medians; `{grid}`, {config.motion}, {config.initial_gaussians} Gaussians, "
        f"{config.views_per_step} views in an iteration."
    )
    return f"{harness.table(header, rows)}\n\n{caption} {harness.describe_machine()}"


def share(part: float, total: float) -> str:
    return f"{three_digits(part)} ms ({part / total:.0%})"


if __name__ == "__main__":
    main()
