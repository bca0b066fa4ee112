"""Clips without alpha, of an object before a white background.

Letters: H × W pixels. What it does not know: backgrounds of other colours.
"""

from __future__ import annotations

import numpy as np

from recon.grid.grid import WHITE
from recon.grid.matte import matte

WHITE_LEVEL = 250  # the mean of R, G, B above which SV4D takes a pixel for background
NOISE_LEVELS = 1  # so little off white is white


def darker_than_white(image: np.ndarray) -> np.ndarray:
    """Where the object is: bool [H, W] of uint8 [H, W, 3]."""
    return image.sum(axis=-1, dtype=np.uint16) <= 3 * WHITE_LEVEL


def estimated_alpha(image: np.ndarray) -> np.ndarray:
    """Alpha of an object whose soft edges are a few pixels wide, uint8, [H, W].

    Args:
        image: uint8, [H, W, 3]; not enlarged, which would widen the edges.
    """
    return matte(image, np.array(WHITE))[..., 3]


def cut_from_white(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Gives an image alpha without changing how it looks over white.

    Alpha is raised where it is too small for the colour that is there: a shadow or the noise of
    compression, though next to white, is not lost.

    Args:
        image: uint8, [H, W, 3].
        alpha: what is known of it, uint8, [H, W].

    Returns:
        RGBA with straight alpha, uint8, [H, W, 4]; over white it differs from `image` by no more
        than a level.
    """
    darkness = 255 - image.astype(np.float32)  # of alpha F + (1 - alpha) white: alpha (255 - F)
    least = darkness.max(axis=-1)
    enough = np.maximum(alpha, np.where(least > NOISE_LEVELS, least, 0))
    colour = 255 - 255 * darkness / np.maximum(enough, 1)[..., None]
    colour[enough == 0] = 255
    return np.rint(np.dstack([colour.clip(0, 255), enough])).astype(np.uint8)
