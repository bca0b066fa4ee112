"""Time one image of the CPU kernel, of the plain PyTorch rasterizer and of another program.

    python -m tests.benchmarks.rasterizer [--repeats 10]

Ours run in turns in one process; the other program (see `tests.benchmarks.peer`) runs before and
after them.
Letters: N Gaussians, V views in a call, images of S × S pixels.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from recon.rasterizers import rasterize
from tests.benchmarks import harness
from tests.benchmarks.ball import ball, cameras
from tests.benchmarks.harness import Timing, in_turns, three_digits, timing
from tests.benchmarks.peer import Samples, peer_name, run_peer

REFERENCE = "plain PyTorch"
MISSING = "–"


class Shape(NamedTuple):
    """What one call renders: N Gaussians, V views of S × S pixels."""

    N: int
    S: int
    V: int = 1

    def __str__(self) -> str:
        views = f" × {self.V} views" if self.V > 1 else ""
        return f"{self.N // 1000}k, {self.S}²{views}"


SMALL = Shape(1000, 64)  # all that the reference can do in reasonable time
SHAPES = (SMALL, Shape(5000, 128), Shape(20000, 256), Shape(20000, 576), Shape(10000, 256, 4))


class Call(NamedTuple):
    """Milliseconds of one call: forward alone, and forward with backward."""

    forward: float
    both: float


class Timings(NamedTuple):
    """Results of one rasterizer and shape; `forward` is None if the program does not print it."""

    forward: Timing | None
    both: Timing


Results = dict[tuple[str, Shape], Timings]


WARM_UPS = 4


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rasterizer")
    parser.add_argument("--repeats", type=int, default=10, help="rounds (default: %(default)s)")
    harness.add_options(parser, "rasterizer")
    options = parser.parse_args(arguments)
    peer = peer_name()
    before = run_peer() if peer else {}
    results: Results = {}
    for shape in SHAPES:
        print(f"rasterizer: {shape}", file=sys.stderr, flush=True)
        results |= measure(shape, options.repeats)
    if peer:
        results |= of_peer(peer, before, run_peer())
    harness.publish(options.section, section(results, peer, options.repeats), options.page)


# -- measuring


def measure(shape: Shape, repeats: int) -> Results:
    """Time all our rasterizers that can render the shape."""
    draw = drawing(shape)
    best = harness.instruction_sets()[-1]
    cases = {kernel_name(*key): kernel_case(draw, *key) for key in kernel_settings()}
    if shape == SMALL:
        cases[REFERENCE] = reference_case(draw)
    calls = in_turns(cases, repeats)
    harness.use_instruction_set(best)
    return {
        (name, shape): Timings(
            timing(call.forward for call in found), timing(call.both for call in found)
        )
        for name, found in calls.items()
    }


def kernel_settings() -> list[tuple[str, int]]:
    """Pairs of instruction set and number of threads, the fastest last."""
    threads = sorted({1, harness.CORES})
    return [(name, count) for name in harness.instruction_sets() for count in threads]


def kernel_name(instruction_set: str, threads: int) -> str:
    return f"CPU kernel, {instruction_set}, {threads} thread{'s' if threads > 1 else ''}"


def drawing(shape: Shape) -> Callable[[str], Call]:
    """Make a function that renders the shape with a backend and differentiates a fixed loss."""
    scene, (viewmats, Ks) = ball(shape.N), cameras(shape.V, shape.S)
    backgrounds = torch.ones(shape.V, 3)
    # planar in memory, like the gradient of the image loss in a fit
    planar = torch.rand(shape.V, 3, shape.S, shape.S, generator=torch.Generator().manual_seed(0))
    d_rgb = planar.permute(0, 2, 3, 1)

    def draw(backend: str) -> Call:
        start = time.perf_counter()
        images = rasterize(*scene, viewmats, Ks, shape.S, shape.S, backgrounds, backend=backend)
        middle = time.perf_counter()
        torch.autograd.grad(images.rgb, scene, d_rgb)
        end = time.perf_counter()
        return Call(1e3 * (middle - start), 1e3 * (end - start))

    return draw


def kernel_case(
    draw: Callable[[str], Call], instruction_set: str, threads: int
) -> Callable[[], Call]:
    """Time a kernel call after warm-up calls: in a fit, threads and caches are warm."""

    def run() -> Call:
        harness.use_instruction_set(instruction_set)
        harness.use_threads(threads)
        for _ in range(WARM_UPS):
            draw("cpu")
        return draw("cpu")

    return run


def reference_case(draw: Callable[[str], Call]) -> Callable[[], Call]:
    def run() -> Call:
        torch.set_num_threads(harness.CORES)
        return draw("reference")

    return run


def of_peer(name: str, before: Samples, after: Samples) -> Results:
    """Merge both runs of the other program."""
    return {
        (name, shape): Timings(None, timing(before[shape.N, shape.S] + after[shape.N, shape.S]))
        for shape in SHAPES
        if shape.V == 1 and (shape.N, shape.S) in before
    }


# -- the tables


def section(results: Results, peer: str | None, repeats: int) -> str:
    """Format the section of docs/benchmarks.md: forward + backward with ratios, then forward."""
    names = list(dict.fromkeys(name for name, _ in results))
    fastest = kernel_name(*kernel_settings()[-1])
    both = [[name, *(both_cell(results, name, shape) for shape in SHAPES)] for name in names]
    for slow in (REFERENCE, *([peer] if peer else [])):
        ratios = (ratio(results, slow, fastest, shape) for shape in SHAPES)
        both.append([f"{slow} ÷ {fastest}", *ratios])
    ours = [name for name in names if name != peer]
    forward = [[name, *(forward_cell(results, name, shape) for shape in SHAPES)] for name in ours]
    shapes = [str(shape) for shape in SHAPES]
    caption = (
        f"N Gaussians in a ball, pixels of the image; minimum (median) of {repeats} calls, all "
        "rasterizers in turns. Ratios: of the minima of this run."
    )
    return "\n\n".join(
        (
            harness.table(["forward + backward, ms", *shapes], both),
            harness.table(["forward, ms", *shapes], forward),
            f"{caption} {harness.describe_machine()}",
        )
    )


def both_cell(results: Results, name: str, shape: Shape) -> str:
    return str(results[name, shape].both) if (name, shape) in results else MISSING


def forward_cell(results: Results, name: str, shape: Shape) -> str:
    return str(results[name, shape].forward) if (name, shape) in results else MISSING


def ratio(results: Results, slow: str, fast: str, shape: Shape) -> str:
    if (slow, shape) not in results:
        return MISSING
    times = results[slow, shape].both.minimum / results[fast, shape].both.minimum
    return f"{three_digits(times)} ×"


if __name__ == "__main__":
    main()
