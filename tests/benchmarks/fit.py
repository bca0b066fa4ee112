"""Measure held-out quality over fitting time for motion models and densification policies.

    python -m tests.benchmarks.fit [GRID ...] [--seconds 60] [--motion bones …]

The fits run one after the other in processes of their own, each with all cores. `--seconds` gives
every fit about the same time by choosing its number of iterations; else the quality decides.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recon.deformation import motion_models
from recon.fitting.config import QUALITIES, fit_config
from recon.fitting.densification import GrowAndPrune, Relocation
from recon.grid import has_split
from tests.benchmarks import harness
from tests.benchmarks.fit_step import EXAMPLE
from tests.benchmarks.fitting_curve import Curve, measure

DENSIFICATIONS = {"relocation": Relocation(), "grow-and-prune": GrowAndPrune()}
SECONDS = {
    "draft": 15.0,
    "standard": 60.0,
    "high": 180.0,
}  # that a fit takes, about, on two cores
COLUMNS = 5  # evaluations in the table; the last one is the end
EVALUATIONS = 10  # over the intended duration; a multiple of the columns
MISSING = "–"


class Case(NamedTuple):
    """A grid, and how it is fitted."""

    grid: Path
    motion: str
    densification: str

    def __str__(self) -> str:
        return f"`{self.grid.name}`, {self.motion}, {self.densification}"


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    nominal_s = options.seconds or SECONDS[options.quality]
    curves = {}
    for case in cases(options):
        print(f"fit: {case}", file=sys.stderr, flush=True)
        curves[case] = run(case, options, nominal_s)
    harness.publish(options.section, section(curves, options, nominal_s), options.page)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fit")
    add = parser.add_argument
    add("grids", nargs="*", type=Path, default=[EXAMPLE], help="default: examples/robot")
    add("--motion", nargs="+", choices=sorted(motion_models), dest="motions",
        default=["bones", "keyframes", "hexplane"])  # fmt: skip
    add("--densification", nargs="+", choices=list(DENSIFICATIONS), default=list(DENSIFICATIONS),
        dest="densifications")  # fmt: skip
    add("--quality", choices=list(QUALITIES), default="standard", help="default: %(default)s")
    add("--seconds", type=float, help="duration of each fit (default: iterations of the quality)")
    add("--psnr", nargs="+", type=float, default=[25, 28, 31], dest="levels",
        help="report the time to reach these dB (default: 25 28 31)")  # fmt: skip
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--seed", type=int, default=0)
    harness.add_options(parser, "fit")
    options = parser.parse_args(arguments)
    for grid in options.grids:
        if not has_split(grid, "test"):
            parser.error(f"{grid} has no held-out views (transforms_test.json)")
    return options


def cases(options: argparse.Namespace) -> list[Case]:
    return [
        Case(grid.resolve(), motion, densification)
        for grid in options.grids
        for motion in options.motions
        for densification in options.densifications
    ]


def run(case: Case, options: argparse.Namespace, nominal_s: float) -> Curve:
    """Run the fit in its own process."""
    config = fit_config(options.quality, case.motion, options.device, options.seed)
    config = replace(config, densification=DENSIFICATIONS[case.densification])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        every_s = nominal_s / EVALUATIONS
        return process.submit(measure, case.grid, config, every_s, options.seconds).result()


# -- the table


def section(curves: dict[Case, Curve], options: argparse.Namespace, nominal_s: float) -> str:
    """Format the section of docs/benchmarks.md."""
    moments = np.linspace(0, nominal_s, COLUMNS + 1)[1:-1].tolist()
    header = [
        "held-out PSNR, dB, after", *map(duration, moments), "the end",
        "SSIM", "worst image", "foreground",
        *(f"s to {level:g} dB" for level in options.levels),
        "s", "iterations", "N", "peak MiB",
    ]  # fmt: skip
    rows = [row(case, curve, moments, options.levels) for case, curve in curves.items()]
    caption = (
        "Seconds of fitting, evaluations excluded; PSNR over white, mean of the held-out images; "
        f"foreground: over the object's box; settings of `--quality {options.quality}`"
        + (f", iterations for {options.seconds:g} s each." if options.seconds else ".")
    )
    return f"{harness.table(header, rows)}\n\n{caption} {harness.describe_machine(options.device)}"


def row(case: Case, curve: Curve, moments: Sequence[float], levels: Sequence[float]) -> list[str]:
    final = curve.final
    memory = f"{curve.peak_mib:.0f}"
    if curve.peak_gpu_mib is not None:
        memory += f" + {curve.peak_gpu_mib:.0f} GPU"
    return [
        str(case),
        *(number(curve.psnr_at(moment), 2) for moment in moments),
        f"**{final.psnr:.2f}**",
        f"{final.ssim:.3f}",
        number(final.worst_psnr, 2),
        number(final.psnr_foreground, 2),
        *(number(curve.seconds_to(level), 0) for level in levels),
        number(curve.seconds[-1], 0),
        str(curve.iterations),
        str(curve.gaussians),
        memory,
    ]


def number(value: float | None, digits: int) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds % 60 == 0 else f"{seconds:g} s"


if __name__ == "__main__":
    main()
