"""Time one call of SV4D's UNet over numbers of views and frames and image sizes.

    python -m tests.benchmarks.unet [--repeats 3] [--channels 128]

On CUDA the network has its full width, in bfloat16; on a CPU it is narrower, in float32. Where the
variable FOURDVD_GENERATIVE_MODELS names a checkout of the published implementation, that one is
called in turns with ours, in the same process and with the same weights.
Letters: V views, T frames, S² pixels of an image, (S/8)² latent pixels.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from generation.cost import count_flops, peak_bytes, product_rate
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.vae import LATENT_SIDE
from tests.benchmarks import harness
from tests.benchmarks.harness import Timing, in_turns, three_digits, timing
from tests.benchmarks.published_unet import call_published, is_here, published_unet

OURS, THEIRS = "ours", "published"
MISSING = "–"
LARGEST_DIFFERENCE = 1e-3  # of the two implementations, relative to the largest number


class Case(NamedTuple):
    """One call, without the second half of classifier-free guidance."""

    V: int
    T: int
    S: int

    def __str__(self) -> str:
        return f"{self.V} × {self.T}, {self.S}²"


ON_CPU = (Case(8, 5, 128), Case(4, 5, 256), Case(8, 5, 256))
ON_CUDA = (Case(4, 12, 576), Case(8, 5, 256), Case(8, 5, 576), Case(16, 5, 576))


class Measured(NamedTuple):
    """Results of one case: times per implementation, peak bytes beside the weights, operations."""

    times: dict[str, Timing]
    memory: int
    flops: int

    @property
    def rate(self) -> float:
        """Floating-point operations per second of the fastest call."""
        return 1e3 * self.flops / self.times[OURS].minimum


Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def main(arguments: Sequence[str] | None = None) -> None:
    on_cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.unet")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--channels", type=int, default=320 if on_cuda else 128,
                        help="channels of the first level (default: %(default)s)")  # fmt: skip
    harness.add_options(parser, "unet-cuda" if on_cuda else "unet")
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if on_cuda else "cpu")
    dtype = torch.bfloat16 if on_cuda else torch.float32
    config = replace(
        SV4DConfig(), model_channels=options.channels, adm_in_channels=4 * options.channels
    )
    unets: dict[str, nn.Module] = {OURS: random_unet(config, device, dtype)}
    if is_here():
        theirs = published_unet(config, unets[OURS].state_dict())
        unets[THEIRS] = theirs.to(device, dtype)
    results: dict[Case, Measured] = {}
    with torch.inference_mode():
        rate = product_rate(device, dtype, 8192 if on_cuda else 1024)
        for case in ON_CUDA if on_cuda else ON_CPU:
            print(f"UNet: {case}", file=sys.stderr, flush=True)
            results[case] = measure(unets, case, options.repeats)
        rate = max(rate, product_rate(device, dtype, 8192 if on_cuda else 1024))
    body = section(results, rate, config.model_channels, dtype, options.repeats)
    harness.publish(
        options.section, f"{body} {harness.describe_machine(device.type)}", options.page
    )


# -- measuring


def random_unet(config: SV4DConfig, device: torch.device, dtype: torch.dtype) -> SV4DUNet:
    """Build a network with random numbers also where training starts from zeros."""
    torch.manual_seed(0)
    with device:
        unet = SV4DUNet(config)
    for parameter in unet.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5 * parameter[0].numel() ** -0.5)
    unet.eval().requires_grad_(False).to(dtype)
    if device.type == "cuda":
        unet.to_channels_last()
    return unet


def inputs(case: Case, config: SV4DConfig, like: Tensor) -> Inputs:
    """Make random arguments of a call."""
    F, side = case.V * case.T, case.S // LATENT_SIDE
    return (
        torch.randn(F, config.in_channels, side, side).to(like),
        torch.full((F,), 0.7).to(like),
        torch.randn(F, config.adm_in_channels).to(like),
        torch.randn(1, case.T, config.context_dim).to(like),
        torch.randn(1, case.V, config.motion_context_dim, side, side).to(like),
    )


def measure(unets: dict[str, nn.Module], case: Case, repeats: int) -> Measured:
    """Time all implementations in turns, after one warm-up call of each."""
    ours = unets[OURS]
    assert isinstance(ours, SV4DUNet)
    arguments = inputs(case, ours.config, next(ours.parameters()))
    calls: dict[str, Callable[[], Tensor]] = {OURS: lambda: ours(*arguments)}
    if THEIRS in unets:
        calls[THEIRS] = lambda: call_published(unets[THEIRS], *arguments)
    check_agreement([call() for call in calls.values()])
    timers = {name: timer(call) for name, call in calls.items()}
    times = {name: timing(found) for name, found in in_turns(timers, repeats).items()}
    return Measured(times, memory_of(calls[OURS]), count_flops(calls[OURS]))


def check_agreement(results: list[Tensor]) -> None:
    for result in results[1:]:
        difference = (result - results[0]).abs().max() / results[0].abs().max()
        tolerance = LARGEST_DIFFERENCE if result.dtype == torch.float32 else 0.1
        assert difference < tolerance, f"the implementations differ by {difference:.2g}"


def timer(call: Callable[[], Tensor]) -> Callable[[], float]:
    """Make a function that times one call in milliseconds."""

    def run() -> float:
        began = time.perf_counter()
        if call().is_cuda:
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - began)

    return run


def memory_of(call: Callable[[], Tensor]) -> int:
    """Measure the peak bytes of tensors beyond those that existed before the call."""
    if not torch.cuda.is_available():
        return peak_bytes(call, "cpu")
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated() - before


# -- the table


def section(
    results: dict[Case, Measured], rate: float, channels: int, dtype: torch.dtype, repeats: int
) -> str:
    """Format the section of docs/benchmarks.md."""
    compared = any(THEIRS in measured.times for measured in results.values())
    header = ["V × T, S²", "ours, s", "memory", "TFLOP", "TFLOP/s", "of a matrix product"]
    if compared:
        header[2:2] = ["published, s", "published ÷ ours"]
    rows = [row(case, measured, rate, compared) for case, measured in results.items()]
    caption = (
        f"{channels} channels on the first level, {str(dtype).removeprefix('torch.')}; minimum "
        f"(median) of {repeats} calls, in turns; ratios: of the minima (of the medians). Memory: "
        f"tensors beside the weights. A product of large matrices reaches {tera(rate)} TFLOP/s."
    )
    return f"{harness.table(header, rows)}\n\n{caption}"


def row(case: Case, measured: Measured, rate: float, compared: bool) -> list[str]:
    ours, theirs = measured.times[OURS], measured.times.get(THEIRS)
    cells = [
        str(case),
        seconds(ours),
        f"{three_digits(measured.memory / 2**30)} GiB",
        tera(measured.flops),
        tera(measured.rate),
        f"{measured.rate / rate:.0%}",
    ]
    if compared:
        cells[2:2] = [seconds(theirs), ratio(theirs, ours)] if theirs else [MISSING, MISSING]
    return cells


def seconds(times: Timing) -> str:
    return f"{three_digits(times.minimum / 1e3)} ({three_digits(times.median / 1e3)})"


def ratio(theirs: Timing, ours: Timing) -> str:
    best, middle = theirs.minimum / ours.minimum, theirs.median / ours.median
    return f"{best:.2f} × ({middle:.2f} ×)"


def tera(number: float) -> str:
    return f"{number / 1e12:.3g}"


if __name__ == "__main__":
    main()
