"""Cuts objects out of blurred images: where an edge is not known it is drawn as a slope.

    image ─▶ darkness ─▶ smooth ─▶ share of the darkest place nearby ─▶ alpha

A network that has learnt little draws the mean of all objects that there may be. Its silhouettes
fade out over many pixels, as far as any of them reaches. The share tells how many of the objects
are at a place: where it is a third the edge is put, a little outside of where half of them end,
since what is missing is farther from the truth than what is there and faint. Colours stay as they
are. Letters: H × W pixels. What it does not know: networks, and backgrounds that are not white.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_fill_holes, gaussian_filter, maximum_filter

from recon.grid.matte import TOLERANCE

EDGE = (0.2, 0.4)  # shares between which alpha goes from 0 to 1
NEARBY = 1 / 2  # of the image's side
SMOOTHING_PX = 1.0
FAINT = 0.35  # of the darkest place of the image: nothing nearby counts as darker than less


def cut_silhouette(image: np.ndarray) -> np.ndarray:
    """An object with an edge, from one over white that fades out.

    Args:
        image: uint8, [H, W, 3].

    Returns:
        RGBA with straight alpha, uint8, [H, W, 4]. What is enclosed by the object belongs to it.
    """
    colours = image.astype(np.float32) / 255
    share = _share(1 - colours.min(axis=-1))
    low, high = EDGE
    alpha = ((share - low) / (high - low)).clip(0, 1)
    alpha[np.asarray(binary_fill_holes(share >= high))] = 1
    colours[alpha == 0] = 1
    return np.rint(255 * np.dstack([colours, alpha])).astype(np.uint8)


def _share(darkness: np.ndarray) -> np.ndarray:
    """How much of an object there seems to be, in [0, 1], [H, W]."""
    smooth = gaussian_filter(darkness, SMOOTHING_PX)
    nearby = maximum_filter(smooth, size=[round(NEARBY * side) | 1 for side in smooth.shape])
    return smooth / np.maximum(nearby, max(FAINT * float(smooth.max()), 2 * TOLERANCE))
