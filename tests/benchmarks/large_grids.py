"""Measure memory and time of a fit over the numbers of frames and views and the image size.

    python -m tests.benchmarks.large_grids [--case 16x21x256 16x300x256 …] [--iterations 60]

The grids repeat the images of a few frames of a generated character, which cost as much to decode
and to fit as different ones. Each case is a process of its own and runs a short schedule with the
phases of a whole fit.
Letters: V views, T frames, S² pixels of an image.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from recon.fitting.checkpoint import fit_identity
from recon.fitting.config import fit_config
from recon.fitting.fit import Fit
from recon.grid import read_grid
from tests.benchmarks import harness
from tests.benchmarks.rendered_grids import write_character_grid

FRAMES = 2  # that are rendered
CASES = ("16x21x256", "48x21x256", "200x1x256", "16x300x256", "16x21x1080", "16x300x576")
ITERATIONS = 60


class Cost(NamedTuple):
    """Seconds and CPU seconds of reading and of the fit, and peaks of memory in bytes."""

    reading_s: float
    reading_cpu_s: float
    fitting_s: float
    fitting_cpu_s: float
    anonymous: int
    resident: int


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.large_grids")
    parser.add_argument("--case", nargs="+", default=list(CASES), dest="cases", metavar="VxTxS")
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    parser.add_argument("--measure", type=Path, help="what each child process measures")
    harness.add_options(parser, "large-grids")
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure, options.iterations)))
        return
    rows = []
    for case in options.cases:
        V, T, S = map(int, case.split("x"))
        print(f"large grids: {case}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as name:
            grid = write_repeated_grid(Path(name) / "grid", V, T, S)
            rows.append(row(V, T, S, in_a_process(grid, options.iterations)))
            print(rows[-1], file=sys.stderr, flush=True)
    header = ["V × T, S²", "decoded", "reading, CPU s", "fit, CPU s", "peak memory", "with files"]
    caption = (
        f"{options.iterations} iterations of a short schedule; CPU seconds of all threads. Peak "
        "memory: anonymous RSS; with files: RSS with the pages of the temporary file, which the "
        f"system keeps while there is room. {harness.describe_machine()}"
    )
    harness.publish(options.section, f"{harness.table(header, rows)}\n\n{caption}", options.page)


def write_repeated_grid(folder: Path, V: int, T: int, S: int) -> Path:
    """Write a grid of T frames that refer to the images of a few."""
    rendered = min(T, FRAMES)
    write_character_grid(folder, V, rendered, S)
    path = folder / "transforms.json"
    content = json.loads(path.read_text())
    known = {(image["view"], image["frame"]): image for image in content["frames"]}
    content["frames"] = [
        known[v, t % rendered] | {"frame": t, "time": t / max(T - 1, 1)}
        for v in range(V)
        for t in range(T)
    ]
    path.write_text(json.dumps(content))
    return folder


def in_a_process(grid: Path, iterations: int) -> Cost:
    command = [sys.executable, "-m", "tests.benchmarks.large_grids", "--measure", str(grid)]
    result = subprocess.run(
        [*command, "--iterations", str(iterations)], capture_output=True, text=True, check=True
    )
    return Cost(*json.loads(result.stdout.splitlines()[-1]))


def measure(path: Path, iterations: int) -> Cost:
    """Read a grid and fit it in this process, as `reconstruct` does."""
    harness.use_threads(0)
    with harness.peak_memory() as peak:
        began, cpu = time.perf_counter(), time.process_time()
        grid = read_grid(path)
        read, read_cpu = time.perf_counter(), time.process_time()
        config = fit_config().for_grid(max(grid.height, grid.width), grid.T)
        config = replace(config, iterations=iterations)
        fit_identity(grid, config)
        fit = Fit(grid, config)
        while not fit.done:
            fit.step()
        end, end_cpu = time.perf_counter(), time.process_time()
    reading, fitting = (read - began, read_cpu - cpu), (end - read, end_cpu - read_cpu)
    return Cost(*reading, *fitting, peak["RssAnon"], peak["VmHWM"])


def row(V: int, T: int, S: int, cost: Cost) -> list[str]:
    return [
        f"{V} × {T}, {S}²",
        f"{V * T * S * S * 4 / 1e9:.2f} GB",
        f"{cost.reading_cpu_s:.1f}",
        f"{cost.fitting_cpu_s:.1f}",
        f"{cost.anonymous / 1e9:.2f} GB",
        f"{cost.resident / 1e9:.2f} GB",
    ]


if __name__ == "__main__":
    main()
