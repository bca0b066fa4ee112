"""How long a training image takes, and how alike the fast renderer's and Cycles' images are.

    python -m tests.benchmarks.mesh_renderers ASSET ... [--size 128] [--samples 16]

Blender bakes each asset and draws it with Cycles, twice: with the samples that are timed, and with
many, which is what both are compared with. The fast renderer draws the same images. Times are of
images alone, without import, bake and PNG files of the fast renderer. Letters: V views, F frames.
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

from generation.curation import rendering
from generation.curation.asset_files import Asset, find_assets
from generation.curation.baked_asset import BakedAsset, read_baked
from generation.curation.blender_process import run_blender
from generation.curation.render_settings import Renderer, RenderSettings
from generation.curation.rendering import RenderTask
from tests.benchmarks import machine, markdown
from tests.benchmarks.timing import Timing, three_digits, timing

ORACLE_SAMPLES = 256
DRAWINGS = 5


class Likeness(NamedTuple):
    """The least over all images.

    Attributes:
        psnr: over white, dB.
        overlap: of the silhouettes where alpha is above one half; intersection over union.
    """

    psnr: float
    overlap: float


class Measured(NamedTuple):
    """Of one asset; times in milliseconds an image."""

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
    parser.add_argument("--samples", type=int, default=16, help="a pixel (default: %(default)s)")
    parser.add_argument("--views", type=int, default=8, help="V (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=3, help="F (default: %(default)s)")
    markdown.add_options(parser, "mesh-renderers")
    options = parser.parse_args(arguments)
    settings = RenderSettings(
        views=options.views, frames=options.frames, size=options.size, samples=options.samples,
        elevation_deg=10.0, device="cpu",
    )  # fmt: skip
    results = []
    for asset in find_assets(options.assets):
        print(f"mesh renderers: {asset.name}", file=sys.stderr, flush=True)
        results.append(measure(asset, settings))
    markdown.publish(options.section, section(results, settings), options.readme)


def measure(asset: Asset, settings: RenderSettings) -> Measured:
    """Both renderers on one asset."""
    truth, _, _ = cycles(asset, settings, ORACLE_SAMPLES)
    images, milliseconds, baked = cycles(asset, settings, settings.samples)
    drawings = []
    fast = rendering.draw(baked, settings)
    for _ in range(DRAWINGS):
        began = time.perf_counter()
        fast = rendering.draw(baked, settings)
        drawings.append(1e3 * (time.perf_counter() - began) / (settings.views * settings.frames))
    triangles = len(baked.frames[0].triangles)
    return Measured(
        asset.name, triangles, milliseconds, timing(drawings),
        likeness(images, truth), likeness(fast, truth),
    )  # fmt: skip


def cycles(
    asset: Asset, settings: RenderSettings, samples: int
) -> tuple[np.ndarray, float, BakedAsset]:
    """Images [V, F, H, W, 4], milliseconds an image, and the baked asset."""
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
    """How alike images [V, F, H, W, 4] and the true ones are."""
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
    return (
        f"Milliseconds an image of {settings.size}² at {settings.samples} samples, minimum "
        f"(median); PSNR over white in dB and overlap of silhouettes, the least over "
        f"{settings.views} × {settings.frames} images, both against Cycles with "
        f"{ORACLE_SAMPLES} samples.\n\n{markdown.table(header, rows)}\n\n{machine.describe()}"
    )


if __name__ == "__main__":
    main()
