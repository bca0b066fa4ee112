"""Grids of a procedurally generated character, for benchmarks that need more than the example.

Letters: V views, T frames, images of S × S pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from generation.curation.figures.asset import FigureAsset
from generation.curation.render.fast_renderer import FastRenderer
from generation.curation.render.settings import DISTANCE, FOV_DEG, Renderer, RenderSettings
from recon.grid import Camera, grid_from_views, orbit_camera
from recon.grid.writing import write_posed_images
from recon.native.library import kernels

CHARACTER = 7  # its seed
HELD_OUT_VIEWS, HELD_OUT_FRAMES = 8, 5
TEST_IMAGES = "test_images/c{view:02d}/t{frame:03d}.png"


def write_character_grid(folder: Path, V: int, T: int, S: int) -> Path:
    """Render a grid with held-out views between and above its own, as `data figures` lights it."""
    settings = RenderSettings(views=V, frames=T, size=S, samples=4, renderer=Renderer.fast)
    renderer = FastRenderer(FigureAsset(CHARACTER).bake(settings).asset, settings.light, 4)
    kernels().set_threads(0)
    folder.mkdir(parents=True)
    _write(renderer, folder, settings.cameras(), range(T))
    held_out = [
        orbit_camera(360 * (v + 0.5) / HELD_OUT_VIEWS, 20 * (v % 2), DISTANCE, FOV_DEG, S, S)
        for v in range(HELD_OUT_VIEWS)
    ]
    frames = sorted({round(t) for t in np.linspace(0, T - 1, HELD_OUT_FRAMES)})
    _write(renderer, folder, held_out, frames, T, "transforms_test.json", TEST_IMAGES)
    return folder


def _write(
    renderer: FastRenderer,
    folder: Path,
    cameras: Sequence[Camera],
    frames: Sequence[int],
    T: int = 0,
    name: str = "transforms.json",
    pattern: str = "images/v{view:02d}/t{frame:03d}.png",
) -> None:
    images = np.stack([renderer.render(frame, cameras) for frame in frames], axis=1)
    times = np.array(frames) / max((T or len(frames)) - 1, 1)
    write_posed_images(grid_from_views(cameras, images, times=times), folder, name, pattern)
