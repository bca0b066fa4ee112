"""Thumbnails, and tiling of images: contact sheets and previews.

Letters: H × W pixels of the tiled image, h × w of a cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

WHITE = (255, 255, 255)

Row = Sequence[np.ndarray | None]
"""Images of one size, uint8, [h, w, 3]; None leaves a cell blank."""


def tile_images(
    rows: Iterable[Row],
    gap_px: int = 0,
    border_px: int = 0,
    background: tuple[int, int, int] = WHITE,
) -> np.ndarray:
    """Tile rows of images into one.

    Args:
        rows: images from top to bottom, left to right. Rows may differ in the size and number of
            their cells; a row of only blank cells has the cell size of the row before.
        gap_px: pixels between cells.
        border_px: pixels around all cells.
        background: color of gaps, border and blank cells, uint8 RGB.

    Returns:
        uint8, [H, W, 3].
    """
    placed, top, right, size = [], border_px, border_px, (0, 0)
    for row in rows:
        size = next((image.shape[:2] for image in row if image is not None), size)
        for column, image in enumerate(row):
            left = border_px + column * (size[1] + gap_px)
            placed.append((image, top, left))
        right = max(right, border_px + len(row) * (size[1] + gap_px) - gap_px)
        top += size[0] + gap_px
    sheet = np.empty((top - gap_px + border_px, right + border_px, 3), np.uint8)
    sheet[:] = background
    for image, y, x in placed:
        if image is not None:
            sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    return sheet


def in_rows(cells: Sequence[np.ndarray | None], columns: int) -> list[list[np.ndarray | None]]:
    """Split cells into rows of `columns`; the last row is filled up with blank cells."""
    padded = [*cells, *[None] * (-len(cells) % columns)]
    return [padded[start : start + columns] for start in range(0, len(padded), columns)]


def thumbnail(image: np.ndarray, size_px: int) -> np.ndarray:
    """Shrink an image to at most `size_px` along its longer side, by area averaging.

    Args:
        image: uint8, [H, W, 3 or 4]; smaller images are not enlarged.
        size_px: longer side of the result in pixels.
    """
    scale = min(1.0, size_px / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
