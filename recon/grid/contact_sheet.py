"""One picture of a whole grid, for people: a row for each view, a column for each of a few frames.

Letters: H × W pixels. What it does not know: files.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from recon.grid.grid import Grid

GAP_PX = 2


def contact_sheet(grid: Grid, rows: int = 16, columns: int = 5, tile_px: int = 160) -> np.ndarray:
    """Small images of evenly chosen views and frames over white; blank where a grid has none.

    Args:
        grid: what to show.
        rows: at most so many views.
        columns: at most so many frames.
        tile_px: longer side of a small image; smaller ones are not enlarged.

    Returns:
        uint8, [H, W, 3].
    """
    views, frames = _evenly(grid.V, rows), _evenly(grid.T, columns)
    scale = min(1.0, tile_px / max(grid.height, grid.width))
    height, width = max(1, round(grid.height * scale)), max(1, round(grid.width * scale))
    sheet = np.full(
        (len(views) * (height + GAP_PX) - GAP_PX, len(frames) * (width + GAP_PX) - GAP_PX, 3),
        255,
        dtype=np.uint8,
    )
    for row, view in enumerate(views):
        for column, frame in enumerate(frames):
            indices = np.flatnonzero((grid.view == view) & (grid.frame == frame))
            for image in grid.over(indices=indices):
                top, left = row * (height + GAP_PX), column * (width + GAP_PX)
                small = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
                sheet[top : top + height, left : left + width] = np.asarray(small)
    return sheet


def _evenly(count: int, most: int) -> np.ndarray:
    """At most `most` of the indices below `count`, evenly spread, both ends included."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
