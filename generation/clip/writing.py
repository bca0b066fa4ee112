"""Writer of a prepared clip: its frames and a preview.

    t000.png …     the frames, RGBA with straight alpha
    preview.png    all frames on a checkerboard, which shows the mask

Letters: T frames, H × W pixels.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from generation.clip.preparing import SquareClip
from recon.media import in_rows, thumbnail, tile_images, write_png

NAME = "t{frame:03d}.png"
COLUMNS = 7
GAP_PX = 3
GAP_COLOR = (60, 60, 70)
CHECK_COLORS = np.array(
    [(255, 214, 236), (236, 186, 214)], np.float32
)  # a pink that few objects have
CHECK_PX = 8


def write_clip(clip: SquareClip, folder: str | Path) -> None:
    """Write the frames and their preview into an existing folder.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    folder = Path(folder)
    paths = [folder / NAME.format(frame=frame) for frame in range(len(clip.images))]
    with ThreadPoolExecutor() as pool:  # PNG is compressed outside of the GIL
        list(pool.map(write_png, paths, clip.images))
    write_png(folder / "preview.png", preview(clip.images))


def preview(images: np.ndarray, tile_px: int = 192) -> np.ndarray:
    """Draw all frames in rows on a checkerboard.

    Args:
        images: RGBA, uint8, [T, H, W, 4].
        tile_px: longer side of a tile; smaller images are not enlarged.

    Returns:
        uint8, [H', W', 3].
    """
    small = [thumbnail(image, tile_px).astype(np.float32) for image in images]
    ground = _checkerboard(*small[0].shape[:2])
    alpha = [rgba[..., 3:] / 255 for rgba in small]
    cells = [
        np.rint(a * rgba[..., :3] + (1 - a) * ground).astype(np.uint8)
        for a, rgba in zip(alpha, small, strict=True)
    ]
    return tile_images(in_rows(cells, min(len(cells), COLUMNS)), GAP_PX, GAP_PX, GAP_COLOR)


def _checkerboard(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] // CHECK_PX
    return CHECK_COLORS[(rows + columns) % 2]
