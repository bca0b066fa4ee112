"""Measure how `fourdvd run` with several inputs scales from one worker to more, one core each.

    python -m tests.benchmarks.clips [--inputs 8] [--workers 1 2] [--no-page]

The inputs are small grids of a generated character, fitted with draft quality. Where other programs
run, compare CPU time: if two workers need no more of it than one, and are never idle, they do twice
the work of one on a quiet machine. *Idle* is the share of the workers' time without CPU time, which
other programs increase.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fourdvd_cli.commands.run_batch import RunBatch
from fourdvd_cli.commands.run_chain import ChainSettings
from tests.benchmarks import harness
from tests.benchmarks.rendered_grids import write_character_grid

V, T, S = 6, 5, 64


class Cost(NamedTuple):
    """Cost of a batch in seconds: by the clock, and of all its processes."""

    wall: float
    cpu: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.clips")
    parser.add_argument("--inputs", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    harness.add_options(parser, "clips")
    options = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = write_character_grid(folder / "grid_0", V, T, S)
        inputs = [first]
        for number in range(1, options.inputs):
            inputs.append(Path(shutil.copytree(first, folder / f"grid_{number}")))
        costs = {}
        for workers in options.workers:
            costs[workers] = measure(inputs, folder / f"out_{workers}", workers)
            print(f"{workers} workers: {costs[workers]}", file=sys.stderr, flush=True)
    harness.publish(options.section, section(costs, options.inputs), options.page)


def measure(inputs: Sequence[Path], output: Path, workers: int) -> Cost:
    """Run a batch; its worker processes have ended when it returns."""
    fit = {"quality": "draft", "motion": None, "device": "cpu", "seed": 0, "sh_degree": 0}
    batch = RunBatch(output, ChainSettings(("ply",), fit), workers=workers, threads=1)
    began, used = time.perf_counter(), children_seconds()
    result = batch.run(inputs)
    assert not result.refused, result.refused[0].reason
    return Cost(time.perf_counter() - began, children_seconds() - used)


def children_seconds() -> float:
    """CPU seconds of all processes that this one started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def section(costs: dict[int, Cost], inputs: int) -> str:
    """Format the section of docs/benchmarks.md."""
    fewest = min(costs)
    base = costs[fewest]
    rows = []
    for workers, cost in costs.items():
        speedup = base.wall / cost.wall
        rows.append(
            [
                str(workers),
                f"{cost.wall:.0f}",
                f"{cost.cpu:.0f}",
                f"{1 - cost.cpu / (workers * cost.wall):.0%}",
                f"{speedup * fewest / workers:.0%}",
                f"{base.cpu / cost.cpu:.0%}",
            ]
        )
    header = ["workers", "wall s", "CPU s", "idle", "of linear, wall", "of linear, CPU time"]
    caption = f"{inputs} grids of {V} × {T} at {S}², draft, one thread each."
    return f"{harness.table(header, rows)}\n\n{caption} {harness.describe_machine()}"


if __name__ == "__main__":
    main()
