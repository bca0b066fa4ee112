"""The parts of `python -m tests.benchmarks.cuda`: each measures something and records numbers.

Every part runs on both devices: at full size on CUDA, in a rehearsal at tiny sizes on a CPU. A part
imports what it needs itself, so that a package that is missing ends only that part.
Letters: V views, T frames, S² pixels of an image, N Gaussians.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    import pytest

    from generation.models.sv4d import SV4DUNet
    from tests.benchmarks.fitting_curve import Curve
    from tests.benchmarks.rasterizer import Shape

ROOT = Path(__file__).parents[2]
REHEARSED_FRAMES = 12  # a rehearsal treats more as too many
PARENT_SECONDS = 1.0  # between two looks whether the parent process still lives


@dataclass(frozen=True)
class Number:
    """A measured number, and what it should be.

    Attributes:
        what: what was measured; a later number of the same name replaces it.
        value: the number.
        unit: its unit.
        at_most: largest value that meets the target; None for no such target.
        at_least: smallest one.
    """

    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        if self.at_most is None and self.at_least is None:
            return None
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)


Record = Callable[[Number], None]
Backend = Callable[..., Any]  # a rasterizer


class Scale(NamedTuple):
    """How large the parts are.

    Attributes:
        device: "cuda", or "cpu" in a rehearsal.
        folder: folder for intermediate files that several parts use, such as the grid.
        grid: grid to fit; None to render one.
    """

    device: str
    folder: Path
    grid: Path | None

    @property
    def full(self) -> bool:
        """Whether this is no rehearsal."""
        return self.device == "cuda"


# -- reconstruction


def gsplat(scale: Scale, record: Record) -> None:
    """Build or load the rasterizer's kernels, compare them with the reference, and time them."""
    from recon.rasterizers import rasterize
    from recon.rasterizers.gsplat import rasterize_gsplat
    from recon.rasterizers.reference import rasterize_reference
    from tests.benchmarks.rasterizer import Shape

    rasterizer = rasterize_gsplat if scale.full else rasterize

    began = time.perf_counter()
    draw(rasterizer, Shape(100, 32), scale.device)
    record(Number("first call, builds or loads the kernels", time.perf_counter() - began, "s"))
    small = Shape(500, 48, 2)
    both = rasterizer, rasterize_reference
    images = [draw(each, small, scale.device)[0] for each in both]
    largest = float((images[0] - images[1]).abs().max())
    # gsplat 1.4 culls tiles beyond 3 standard deviations: alphas below 0.011
    record(Number("largest difference from the reference", largest, at_most=0.02))
    for shape in (Shape(20000, 576), Shape(20000, 256, 16)) if scale.full else (Shape(500, 64),):
        fastest = min(
            milliseconds(rasterizer, shape, scale.device) for _ in range(20 if scale.full else 2)
        )
        record(Number(f"forward + backward, {shape}", fastest, "ms"))


def draw(backend: Backend, shape: Shape, device: str) -> list[torch.Tensor]:
    """Render a ball of Gaussians; return the images and the gradients of their mean square."""
    from tests.benchmarks.ball import ball, cameras

    scene = [each.detach().to(device).requires_grad_() for each in ball(shape.N)]
    viewmats, Ks = (each.to(device) for each in cameras(shape.V, shape.S))
    backgrounds = torch.ones(shape.V, 3, device=device)
    rgb = backend(*scene, viewmats, Ks, shape.S, shape.S, backgrounds).rgb
    return [rgb.detach(), *torch.autograd.grad(rgb.square().mean(), scene)]


def milliseconds(backend: Backend, shape: Shape, device: str) -> float:
    """Time `draw`, copies to the device included."""
    began = time.perf_counter()
    draw(backend, shape, device)
    if device == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - began)


def fit(scale: Scale, record: Record) -> None:
    """Fit the grid with standard quality on the device."""
    _record_fit(_fit(scale, scale.device), record, at_most=60.0)


def fit_on_cpu(scale: Scale, record: Record) -> None:
    """Fit the same grid on the CPU, for its PSNR."""
    _record_fit(_fit(scale, "cpu"), record)


def _fit(scale: Scale, device: str) -> Curve:
    from recon.fitting.config import fit_config
    from recon.grid import read_grid
    from tests.benchmarks.fitting_curve import measure

    grid = own_grid(scale) if scale.grid is None else scale.grid
    held_out = read_grid(grid, "test")
    config = fit_config("standard", device=device)
    config = config.for_grid(max(held_out.height, held_out.width), held_out.T)
    if not scale.full:
        config = replace(config, iterations=30, initial_gaussians=200, max_gaussians=300)
    return measure(grid, config, float("inf"), None)


def _record_fit(curve: Curve, record: Record, at_most: float | None = None) -> None:
    record(Number("fit", curve.seconds[-1], "s", at_most=at_most))
    record(Number("held-out PSNR", curve.final.psnr, "dB"))
    record(Number("held-out SSIM", curve.final.ssim))
    if curve.final.worst_psnr is not None:
        record(Number("worst image", curve.final.worst_psnr, "dB"))
    record(Number("Gaussians", curve.gaussians))
    record(Number("iterations", curve.iterations))
    if curve.peak_gpu_mib is not None:
        record(Number("peak GPU memory", curve.peak_gpu_mib / 1024, "GiB"))


def own_grid(scale: Scale) -> Path:
    """Render the grid that the parts share, once."""
    from tests.benchmarks.rendered_grids import write_character_grid

    folder = scale.folder / "grid"
    if not (folder / "transforms_test.json").exists():
        V, T, S = (16, 21, 576) if scale.full else (4, 3, 32)
        with tempfile.TemporaryDirectory(dir=scale.folder) as name:
            write_character_grid(Path(name) / "grid", V, T, S).rename(folder)
    return folder


# -- tests


def gpu_tests(scale: Scale, record: Record) -> None:
    """Run the tests that are marked `gpu`; in a rehearsal, some others."""
    import pytest

    chosen = ["-m", "gpu", "tests"]
    if not scale.full:
        chosen = ["tests/recon/test_srgb.py", "tests/recon/test_quantization.py"]
    os.chdir(ROOT)
    # a warning of a library on this machine should not hide whether the results are right
    arguments = ["-q", "-p", "no:cacheprovider", "-W", "default", *chosen]
    code = pytest.main(arguments, plugins=[Outcomes(record)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {code!r}")


class Outcomes:
    """Plugin of pytest that records the numbers of passed, failed and skipped tests."""

    def __init__(self, record: Record):
        self._record = record
        self._counts = dict.fromkeys(("passed", "failed", "skipped"), 0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        self._counts[report.outcome] += 1
        for outcome, count in self._counts.items():
            self._record(Number(outcome, count, at_most=0 if outcome == "failed" else None))
        if report.outcome == "failed":
            self._record(Number(f"failed: {report.nodeid}", 1))


# -- generation


def unet_call(scale: Scale, record: Record) -> None:
    """Time calls of SV4D's UNet against the rate of a matrix product."""
    from generation.cost import product_rate
    from tests.benchmarks import unet
    from tests.benchmarks.published_unet import is_here, published_unet

    device, dtype = torch.device(scale.device), dtype_of(scale)
    side = 8192 if scale.full else 256
    with torch.inference_mode():
        rate = product_rate(device, dtype, side)
        record(Number("matrix product", rate / 1e12, "TFLOP/s"))
        network = random_unet(scale)
        unets: dict[str, torch.nn.Module] = {unet.OURS: network}
        if is_here():
            theirs = published_unet(network.config, network.state_dict())
            unets[unet.THEIRS] = theirs.to(device, dtype)
        for case in sorted(unet.ON_CUDA, reverse=True) if scale.full else (unet.Case(2, 2, 64),):
            found = unet.measure(unets, case, 3)
            share = found.rate / max(rate, product_rate(device, dtype, side))
            record(Number(f"{case}", found.times[unet.OURS].minimum, "ms"))
            target = 0.6 if scale.full else None
            record(Number(f"{case}, of the product's rate", share, at_least=target))
            record(Number(f"{case}, memory", found.memory / 2**30, "GiB"))
            if unet.THEIRS in found.times:
                ratio = found.times[unet.THEIRS].minimum / found.times[unet.OURS].minimum
                record(Number(f"{case}, published ÷ ours", ratio))


def random_unet(scale: Scale) -> SV4DUNet:
    """Build SV4D's UNet with random weights, at full width or tiny."""
    from generation.models.sv4d import SV4DConfig
    from tests.benchmarks import unet

    config = SV4DConfig()
    if not scale.full:
        config = replace(config, model_channels=32, adm_in_channels=128, num_head_channels=32)
    return unet.random_unet(config, torch.device(scale.device), dtype_of(scale))


def dtype_of(scale: Scale) -> torch.dtype:
    return torch.bfloat16 if scale.full else torch.float32


def cascade(scale: Scale, record: Record) -> None:
    """Generate 16 × 21 images at 576² with networks of full size and random weights."""
    from generation.settings import GenerateSettings
    from recon.progress import Progress
    from tests.benchmarks import full_cascade
    from tests.generation.tiny_networks import tiny_clip

    frames, size, channels, steps = (21, 576, 320, None) if scale.full else (5, 64, 32, 1)
    settings = GenerateSettings("4dvd", steps=steps, device=scale.device, size=size)

    def on_step(progress: Progress) -> None:
        record(Number(f"steps of {progress.phase} made", progress.step))

    report = full_cascade.measured(tiny_clip(frames, size), settings, channels, on_step)
    parts: dict[str, float] = report["seconds"]
    computing = sum(seconds for name, seconds in parts.items() if not name.endswith("load"))
    record(Number("16 × 21 images at 576²" if scale.full else "cascade", computing, "s",
                  at_most=60.0))  # fmt: skip
    record(Number("peak memory", report["peak_memory_bytes"] / 1e9, "GB", at_most=30.0))
    for name, seconds in parts.items():
        record(Number(name, seconds, "s"))


def largest_window(scale: Scale, record: Record) -> None:
    """Find the largest number of frames of 16 views whose UNet call fits into memory."""
    from tests.benchmarks import unet

    V, S = (16, 576) if scale.full else (2, 64)
    with torch.inference_mode():
        network = random_unet(scale)
        parameter = next(network.parameters())

        def fits(T: int) -> bool:
            try:
                if not scale.full and T > REHEARSED_FRAMES:
                    raise torch.OutOfMemoryError
                # .item() waits for the device, where a call fails later than it returns
                network(*unet.inputs(unet.Case(V, T, S), network.config, parameter)).sum().item()
            except torch.OutOfMemoryError:
                return False
            finally:
                if scale.full:
                    torch.cuda.empty_cache()
            return True

        for T in growing(fits, 5):
            record(Number(f"frames T beside V = {V} at {S}²", T))
            record(Number("images in one call", V * T))


def growing(fits: Callable[[int], bool], first: int) -> Iterator[int]:
    """Double a number until it does not fit, then bisect to a tenth; yield what fits, ascending."""
    best, too_many, candidate = 0, None, first
    while candidate != best:
        if fits(candidate):
            best = candidate
            yield best
        else:
            too_many = candidate
        if too_many is None:
            candidate = 2 * best
        elif too_many - best <= max(1, best // 10):
            return
        else:
            candidate = (best + too_many) // 2


# -- training


def train_lift(scale: Scale, record: Record) -> None:
    """Train `lift` in bfloat16 on generated characters for some seconds."""
    from tests.benchmarks import lift_training
    from tests.generation.lift.tiny_lift import CONFIG, write_lift
    from tests.generation.training.tiny_lift import ENGINE, TINY

    seconds = 15.0 if scale.full else 0.5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if scale.full:
            training = lift_training.full_training(folder, scale.device)
        else:
            stage = replace(TINY, network=CONFIG)
            training = lift_training.with_characters(folder, ENGINE, stage, write_lift(folder))
        batch = training.engine.batch_size
        rate = lift_training.device_rate(training, seconds)
        record(Number(f"steps of {batch} samples, device alone", rate, "1/s"))
        rate = lift_training.training_rate(training, folder / "run", seconds)
        record(Number(f"steps of {batch} samples, samples drawn meanwhile", rate, "1/s"))


PARTS = {
    "gsplat": gsplat,
    "tests": gpu_tests,
    "fit": fit,
    "unet": unet_call,
    "cascade": cascade,
    "train-lift": train_lift,
    "largest-window": largest_window,
    "fit-on-cpu": fit_on_cpu,
}
"""All parts, in order of worth."""


def main() -> None:
    """Measure one part in this process; its numbers are written as they come, one JSON a line."""
    name, output, device, folder, grid = sys.argv[1:]
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    with Path(output).open("a", encoding="utf-8") as file:

        def record(number: Number) -> None:
            file.write(json.dumps(asdict(number), ensure_ascii=False) + "\n")
            file.flush()

        PARTS[name](Scale(device, Path(folder), Path(grid) if grid else None), record)


def end_with_parent(parent: int) -> None:
    """End this process when its parent was killed, so that it does not keep the card."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
