"""Thumbnails of the frames of a video, which tell it from other videos, however it is compressed.

Letters: T frames of H × W pixels, thumbnails of S × S.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image

from recon.grid.grid import composite
from recon.grid.source_camera import THUMBNAIL_SIDE


def thumbnails_of(images: Iterable[np.ndarray]) -> np.ndarray:
    """Shrink the frames of a video so far that only another video has other ones.

    Args:
        images: sRGB, with straight alpha or opaque, uint8, [H, W, 3 or 4] each.

    Returns:
        sRGB over white, uint8, [T, S, S, 3].
    """
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    opaque = (composite(image) if image.shape[-1] == 4 else image for image in images)
    return np.stack(
        [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) for image in opaque]
    )


def thumbnail_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the root mean square difference of thumbnails, relative to their contrast.

    The contrast is the deviation of the expected ones from their most common color, which is mostly
    that of the background. Compression changes a few percent, gamma or brightness up to 15; of
    another video it is more than 50.
    """
    expected = expected.astype(np.float64)
    contrast = expected - np.median(expected.reshape(-1, 3), axis=0)
    error = np.sqrt(((found - expected) ** 2).mean())
    return float(error / max(np.sqrt((contrast**2).mean()), 1.0))
