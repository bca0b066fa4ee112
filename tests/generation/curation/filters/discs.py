"""Small grids of a textured, moving disc."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from generation.curation.filters.clips import Clip, view_clip
from recon.grid import Grid, grid_from_views, orbit_camera

SIDE = 96
Path2D = list[tuple[float, float]]


def textured_disc(path: Path2D, radius: float = 16.0, V: int = 4, seed: int = 0) -> Grid:
    """A grid of a textured disc whose center follows a path of (row, column), equal in all views.

    Its texture is a sum of waves, so it is known between pixels, too.
    """
    rng = np.random.default_rng(seed)
    waves = rng.uniform(-0.5, 0.5, (6, 2))
    phases = rng.uniform(0, 6, (3, 6))
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    frames = np.zeros((len(path), SIDE, SIDE, 4))
    for frame, (row, column) in zip(frames, path, strict=True):
        y, x = rows - row, columns - column
        angle = waves[:, 0, None, None] * y + waves[:, 1, None, None] * x
        for channel in range(3):
            frame[..., channel] = 0.5 + np.sin(angle + phases[channel, :, None, None]).sum(0) / 12
        frame[..., 3] = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1)
    images = np.repeat(np.rint(255 * frames).astype(np.uint8)[None], V, axis=0)
    cameras = [orbit_camera(360 / V * view, 0, 3.2, 33.8, SIDE, SIDE) for view in range(V)]
    return grid_from_views(cameras, images)


def steady(frames: int = 6, step: float = 2.0) -> Path2D:
    """Return a path to the right with a step in pixels per frame."""
    return [(48.0, 38.0 + step * frame) for frame in range(frames)]


def altered(grid: Grid, change: Callable[[np.ndarray], np.ndarray]) -> Grid:
    """Return the grid with other images."""
    return replace(grid, images=change(grid.images.copy()))


def clips(grid: Grid) -> list[Clip | None]:
    """Return the clips of all views."""
    return [view_clip(grid, view) for view in range(grid.V)]
