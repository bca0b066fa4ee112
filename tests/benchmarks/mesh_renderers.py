"""Compare the fast renderer with Cycles: milliseconds per image, and how similar the images are.

    python -m tests.benchmarks.mesh_renderers ASSET ... [--size 128] [--samples 16]

Blender bakes each asset and renders it with Cycles twice: with the samples per pixel that are
timed, and with many as the ground truth of both. The fast renderer draws the same images. Times
exclude import and baking, and the PNG files of the fast renderer. Letters: V views, F frames.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from generation.curation.assets.files import Asset, find_assets
from generation.curation.render import rendering
from generation.curation.render.baked_asset import BakedAsset, read_baked
from generation.curation.render.blender_process import run_blender
from generation.curation.render.rendering import RenderTask
from generation.curation.render.settings import Renderer, RenderSettings
from tests.benchmarks import harness
from tests.benchmarks.harness import Timing, three_digits, timing

ORACLE_SAMPLES = 256
DRAWINGS = 5


class Likeness(NamedTuple):
    """The worst similarity over all images.

    Attributes:
        psnr: over white, dB.
        overlap: of the silhouettes where alpha is above one half; intersection over union.
    """

    psnr: float
    overlap: float


class Measured(NamedTuple):
    """Results of one asset; times in milliseconds per image."""

    name: str
    triangles: int
    cycles_ms: float
    fast_ms: Timing
    cycles: Likeness
    fast: Likeness


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.mesh_renderers")
    parser.add_argument("assets", nargs="+", type=Path, help="animated 3D assets, or folders")
    parser.add_argument("--size", type=int, default=128, help="pixels (default: %(default)s)")
    parser.add_argument(
        "--samples", type=int, default=16, help="samples per pixel (default: %(default)s)"
    )
    parser.add_argument("--views", type=int, default=8, help="V (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=3, help="F (default: %(default)s)")
    harness.add_options(parser, "mesh-renderers")
    options = parser.parse_args(arguments)
    settings = RenderSettings(
        views=options.views, frames=options.frames, size=options.size, samples=options.samples,
        elevation_deg=10.0, device="cpu",
    )  # fmt: skip
    results = []
    for asset in find_assets(options.assets):
        print(f"mesh renderers: {asset.name}", file=sys.stderr, flush=True)
        results.append(measure(asset, settings))
    harness.publish(options.section, section(results, settings), options.page)


def measure(asset: Asset, settings: RenderSettings) -> Measured:
    """Run both renderers on one asset."""
    truth, _, _ = cycles(asset, settings, ORACLE_SAMPLES)
    images, milliseconds, baked = cycles(asset, settings, settings.samples)
    drawings = []
    fast = rendering.draw_images(baked, settings)
    for _ in range(DRAWINGS):
        began = time.perf_counter()
        fast = rendering.draw_images(baked, settings)
        drawings.append(1e3 * (time.perf_counter() - began) / (settings.views * settings.frames))
    triangles = len(baked.frames[0].triangles)
    return Measured(
        asset.name, triangles, milliseconds, timing(drawings),
        likeness(images, truth), likeness(fast, truth),
    )  # fmt: skip


def cycles(
    asset: Asset, settings: RenderSettings, samples: int
) -> tuple[np.ndarray, float, BakedAsset]:
    """Render with Cycles: images [V, F, H, W, 4], milliseconds per image, and the baked asset."""
    chosen = RenderSettings(
        views=settings.views, frames=settings.frames, size=settings.size, samples=samples,
        elevation_deg=settings.elevation_deg, device="cpu", renderer=Renderer.cycles, depth=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        request = rendering.blender_request(asset, RenderTask(asset, scratch, chosen), scratch)
        result = run_blender(request, rendering.TIMEOUT_S)
        images = rendering.read_images(scratch / "images", chosen)
        baked = read_baked(scratch / "baked.npz")
    return images, 1e3 * result.render_seconds / (chosen.views * chosen.frames), baked


def likeness(images: np.ndarray, truth: np.ndarray) -> Likeness:
    """Compare images [V, F, H, W, 4] with the true ones."""
    images, truth = (x.reshape(-1, *x.shape[2:]) for x in (images, truth))
    error = np.mean((over_white(images) - over_white(truth)) ** 2, axis=(1, 2, 3))
    one, other = images[..., 3] > 127, truth[..., 3] > 127
    union = np.maximum((one | other).sum(axis=(1, 2)), 1)
    overlap = (one & other).sum(axis=(1, 2)) / union
    return Likeness(float(10 * np.log10(255**2 / error.max())), float(overlap.min()))


def over_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:] / 255.0
    return rgba[..., :3] * alpha + 255.0 * (1 - alpha)


def section(results: Sequence[Measured], settings: RenderSettings) -> str:
    header = (
        "asset", "triangles", "Cycles", "fast renderer", "times faster",
        "PSNR of Cycles", "PSNR", "silhouettes of Cycles", "silhouettes",
    )  # fmt: skip
    rows = [
        (
            m.name, str(m.triangles), three_digits(m.cycles_ms), str(m.fast_ms),
            f"{m.cycles_ms / m.fast_ms.median:.0f}", f"{m.cycles.psnr:.1f}", f"{m.fast.psnr:.1f}",
            f"{m.cycles.overlap:.4f}", f"{m.fast.overlap:.4f}",
        )
        for m in results
    ]  # fmt: skip
    machine = harness.describe_machine()
    return (
        f"Milliseconds per image of {settings.size}² at {settings.samples} samples per pixel, "
        f"minimum (median); PSNR over white in dB and IoU of silhouettes, the worst of "
        f"{settings.views} × {settings.frames} images, both against Cycles with "
        f"{ORACLE_SAMPLES} samples.\n\n{harness.table(header, rows)}\n\n{machine}"
    )


if __name__ == "__main__":
    main()
