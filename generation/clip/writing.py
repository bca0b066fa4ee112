"""A prepared clip on disk, for people and for the next program.

    t000.png …     the frames, RGBA with straight alpha
    preview.png    all of them before a chequered ground, which shows what the mask holds

Letters: T frames, H × W pixels. What it does not know: how the frames were made.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from generation.clip.preparing import PreparedClip
from recon.media import write_png

NAME = "t{frame:03d}.png"
COLUMNS = 7
GAP_PX = 3
GAP_COLOUR = (60, 60, 70)
CHECKS = np.array([(255, 214, 236), (236, 186, 214)], np.float32)  # a pink that few objects have
CHECK_PX = 8


def write_clip(clip: PreparedClip, folder: str | Path) -> None:
    """Writes the frames and their preview into an existing folder.

    Raises:
        OSError: the folder is missing or may not be written to, or the disk is full.
    """
    folder = Path(folder)
    paths = [folder / NAME.format(frame=frame) for frame in range(len(clip.images))]
    with ThreadPoolExecutor() as pool:  # PNG is packed outside Python's lock
        list(pool.map(write_png, paths, clip.images))
    write_png(folder / "preview.png", preview(clip.images))


def preview(images: np.ndarray, tile_px: int = 192) -> np.ndarray:
    """All frames in rows, framed, before a chequered ground.

    Args:
        images: RGBA, uint8, [T, H, W, 4].
        tile_px: longer side of a small image; smaller ones are not enlarged.

    Returns:
        uint8, [H', W', 3].
    """
    T, height, width = images.shape[:3]
    scale = min(1.0, tile_px / max(height, width))
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    columns = min(T, COLUMNS)
    rows = math.ceil(T / columns)
    sheet = np.empty((rows * (height + GAP_PX) + GAP_PX, columns * (width + GAP_PX) + GAP_PX, 3))
    sheet[:] = GAP_COLOUR
    ground = _chequered(height, width)
    for index, image in enumerate(images):
        small = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
        rgba = np.asarray(small, dtype=np.float32)
        alpha = rgba[..., 3:] / 255
        top = GAP_PX + index // columns * (height + GAP_PX)
        left = GAP_PX + index % columns * (width + GAP_PX)
        tile = alpha * rgba[..., :3] + (1 - alpha) * ground
        sheet[top : top + height, left : left + width] = tile
    return np.rint(sheet).astype(np.uint8)


def _chequered(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] // CHECK_PX
    return CHECKS[(rows + columns) % 2]
