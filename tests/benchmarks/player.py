"""Measure the player in Chromium's software renderer, and count the work of a frame.

    python -m tests.benchmarks.player [SCENE] [--gaussians 10000 50000] [--size 1280x720]

Without a scene: flat Gaussians on a moving ball that they cover. The player draws with fewer pixels
where it is slow; that is switched off here. A GPU's frames per second follow from the *fragments*:
pixels of all quads of a frame, most of them blended.
Letters: N Gaussians, H × W pixels.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from recon.deformation.bones import BoneDeformation
from recon.exporters.folder import export
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid.cameras import orbit_camera
from recon.rasterizers.interface import ALPHA_MIN
from recon.rasterizers.reference import project
from recon.rendering import camera_tensors
from recon.scene import Scene, load_scene
from tests.benchmarks import harness
from tests.recon.player.browser import Browser, find_browser

RADIUS, TIMES, BONES = 0.8, 21, 24
COVERAGE = (
    0.55  # standard deviation in the plane over the spacing; overdraw is as in a fitted scene
)
MEGA = 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.player")
    parser.add_argument("scene", nargs="?", type=Path, help="default: a ball")
    parser.add_argument("--gaussians", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--size", default="1280x720", metavar="WxH")
    parser.add_argument("--seconds", type=float, default=10.0, help="of playback")
    harness.add_options(parser, "player")
    options = parser.parse_args(arguments)
    width, height = map(int, options.size.split("x"))
    scenes = [load_scene(options.scene)] if options.scene else map(ball, options.gaussians)
    rows = [measure(scene, width, height, options.seconds) for scene in scenes]
    header = [
        "Gaussians",
        "page",
        "frames a second",
        "sorting",
        "fragments of a frame",
        "of 30 a second",
    ]
    machine = harness.describe_machine()
    caption = f"{width} × {height} pixels, Chromium with SwiftShader on the CPU. {machine}"
    harness.publish(options.section, f"{harness.table(header, rows)}\n\n{caption}", options.page)


def ball(count: int) -> Scene:
    """Flat Gaussians on a sphere, which bones move."""
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    spacing = RADIUS * math.sqrt(4 * math.pi / count)
    gaussians = gaussians_from_points(
        torch.from_numpy(RADIUS * normals).float(),
        torch.from_numpy(0.5 + normals / 2).float(),
        COVERAGE * spacing,
        opacity=0.9,
    )
    times = np.linspace(0, 1, TIMES)
    motion = BoneDeformation.for_fit(gaussians, list(times), bones=BONES)
    for time_, translation in zip(times, motion.translations, strict=True):
        translation.data[:, 2] += 0.1 * math.sin(2 * math.pi * time_)
    motion.requires_grad_(False)
    gaussians = _flattened(gaussians, torch.from_numpy(normals).float())
    return Scene(gaussians, motion, times, (orbit_camera(0, 10, 3.2, 33.8, 256, 256),))


def _flattened(gaussians: Gaussians, normals: torch.Tensor) -> Gaussians:
    """Turn the first axis of each Gaussian along its normal, and make it thin."""
    half = torch.cat([1 + normals[:, :1], torch.zeros_like(normals[:, :1]),
                      -normals[:, 2:], normals[:, 1:2]], dim=1)  # fmt: skip
    quats = torch.nn.functional.normalize(half, dim=1)
    thin = torch.tensor([math.log(0.1), 0.0, 0.0])
    return gaussians._replace(quats=quats, scales=gaussians.scales + thin)


def measure(scene: Scene, width: int, height: int, seconds: float) -> list[str]:
    """Play a scene and return its row of the table."""
    path = find_browser()
    if path is None:
        sys.exit("no Chromium or Chrome found (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as name:
        export(scene, Path(name), ["html"])
        page = Path(name) / "html" / "scene.html"
        browser = Browser(path)
        try:
            browser.open(page.as_uri(), width=width, height=height)
            browser.wait_until("!document.body.classList.contains('loading')")
            browser.evaluate("player.adapt = () => {}; player.scale = 1; player.setPlaying(true)")
            drawn, began = browser.evaluate("player.drawn"), time.perf_counter()
            time.sleep(seconds)
            drawn = browser.evaluate("player.drawn") - drawn
            rate = drawn / (time.perf_counter() - began)
            sorting = browser.evaluate("player.sortMilliseconds")
        finally:
            browser.close()
        size = page.stat().st_size
    fragments = fragments_of(scene, width, height)
    return [
        f"{len(scene.gaussians.means):,}",
        f"{size / MEGA:.2f} MB",
        f"{rate:.1f}",
        f"{sorting:.1f} ms",
        f"{fragments / MEGA:.1f} million ({fragments / (width * height):.1f} a pixel)",
        f"{30 * fragments / MEGA:.0f} million",
    ]


def fragments_of(scene: Scene, width: int, height: int) -> float:
    """Count the pixels of the quads that the player draws of the first frame."""
    camera = scene.cameras[0]
    scale = min(width / camera.width, height / camera.height)
    camera = camera.resized(round(scale * camera.height), round(scale * camera.width))
    g = scene.at(float(scene.times[0])).map(torch.Tensor.detach)
    viewmats, Ks = camera_tensors([camera], g.means)
    projection = project(
        g.means, g.quats, g.scales.exp(), viewmats[0], Ks[0], camera.height, camera.width
    )
    a, b, c = projection.conics.unbind(1)
    deviations = (a * c - b * b).rsqrt()  # product of the two standard deviations in pixels
    reach_squared = 2 * (g.opacities.sigmoid() / ALPHA_MIN).log().clamp_min(0)
    return float((4 * reach_squared * deviations)[projection.visible].sum())


if __name__ == "__main__":
    main()
