"""How long an image takes: the CPU kernel, plain PyTorch, another program.

    python -m tests.benchmarks.rasterizer [--repeats 10]

All run in turns in one process; the other program (see `tests.benchmarks.peer`) before and after.
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
from tests.benchmarks import machine, markdown
from tests.benchmarks.ball import ball, cameras
from tests.benchmarks.peer import Samples, peer_name, run_peer
from tests.benchmarks.timing import Timing, in_turns, three_digits, timing

REFERENCE = "plain PyTorch"
MISSING = "–"


class Shape(NamedTuple):
    """What is drawn in one call."""

    N: int
    S: int
    V: int = 1

    def __str__(self) -> str:
        views = f" × {self.V} views" if self.V > 1 else ""
        return f"{self.N // 1000}k, {self.S}²{views}"


SMALL = Shape(1000, 64)  # all that the reference can do in reasonable time
SHAPES = (SMALL, Shape(5000, 128), Shape(20000, 256), Shape(20000, 576), Shape(10000, 256, 4))


class Call(NamedTuple):
    """Milliseconds of one call: forward, and forward with the backward after it."""

    forward: float
    both: float


class Timings(NamedTuple):
    """Of one rasterizer and shape; `forward` is None where another program does not tell it."""

    forward: Timing | None
    both: Timing


Results = dict[tuple[str, Shape], Timings]


WARM_UPS = 4


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rasterizer")
    parser.add_argument("--repeats", type=int, default=10, help="rounds (default: %(default)s)")
    markdown.add_options(parser, "rasterizer")
    options = parser.parse_args(arguments)
    peer = peer_name()
    before = run_peer() if peer else {}
    results: Results = {}
    for shape in SHAPES:
        print(f"rasterizer: {shape}", file=sys.stderr, flush=True)
        results |= measure(shape, options.repeats)
    if peer:
        results |= of_peer(peer, before, run_peer())
    markdown.publish(options.section, section(results, peer, options.repeats), options.readme)


# -- measuring


def measure(shape: Shape, repeats: int) -> Results:
    """All rasterizers of ours that can draw the shape."""
    draw = drawing(shape)
    best = machine.instruction_sets()[-1]
    cases = {kernel_name(*key): kernel_case(draw, *key) for key in kernel_settings()}
    if shape == SMALL:
        cases[REFERENCE] = reference_case(draw)
    calls = in_turns(cases, repeats)
    machine.use_instruction_set(best)
    return {
        (name, shape): Timings(
            timing(call.forward for call in found), timing(call.both for call in found)
        )
        for name, found in calls.items()
    }


def kernel_settings() -> list[tuple[str, int]]:
    """Instruction set and threads, the fastest last."""
    threads = sorted({1, machine.CORES})
    return [(name, count) for name in machine.instruction_sets() for count in threads]


def kernel_name(instruction_set: str, threads: int) -> str:
    return f"CPU kernel, {instruction_set}, {threads} thread{'s' if threads > 1 else ''}"


def drawing(shape: Shape) -> Callable[[str], Call]:
    """A function that draws the shape with a backend, and differentiates a fixed loss of it."""
    scene, (viewmats, Ks) = ball(shape.N), cameras(shape.V, shape.S)
    backgrounds = torch.ones(shape.V, 3)
    # Planar in memory, as the gradient of the fit's image loss is.
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
    """A call of the kernel after some that do not count: in a fit threads and caches are warm."""

    def run() -> Call:
        machine.use_instruction_set(instruction_set)
        machine.use_threads(threads)
        for _ in range(WARM_UPS):
            draw("cpu")
        return draw("cpu")

    return run


def reference_case(draw: Callable[[str], Call]) -> Callable[[], Call]:
    def run() -> Call:
        torch.set_num_threads(machine.CORES)
        return draw("reference")

    return run


def of_peer(name: str, before: Samples, after: Samples) -> Results:
    """Both runs of the other program together."""
    return {
        (name, shape): Timings(None, timing(before[shape.N, shape.S] + after[shape.N, shape.S]))
        for shape in SHAPES
        if shape.V == 1 and (shape.N, shape.S) in before
    }


# -- the tables


def section(results: Results, peer: str | None, repeats: int) -> str:
    """The README's section: one table of both directions with the ratios, one of the forward."""
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
            markdown.table(["forward + backward, ms", *shapes], both),
            markdown.table(["forward, ms", *shapes], forward),
            f"{caption} {machine.describe()}",
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
