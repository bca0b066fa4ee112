"""Matting of images without alpha over a background of uniform color.

    rgb ──border color──▶ B ──flood from the border──▶ background ──band around it──▶ alpha, color

Only regions connected to the border are background, so white parts inside the object are kept. In
the band between the two, a pixel C = α F + (1 − α) B mixes B with the object's color F, which is
that of the neighbor least similar to B. Letters: M images, H × W pixels.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

TOLERANCE = 12 / 255  # deviation from a uniform color caused by video compression
UNIFORM_SHARE = 0.6  # of the border pixels; the others may belong to an object at the border
BAND_PX = 2.0
WINDOW_PX = 2  # largest distance of a neighbor in rows and columns


def border_color(images: np.ndarray) -> np.ndarray | None:
    """Find the uniform color around the object in all images; None if it is not uniform.

    Args:
        images: uint8, [M, H, W, 3 or more].

    Returns:
        sRGB in [0, 1], [3].
    """
    sides = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    border = np.concatenate([side[..., :3].reshape(-1, 3) for side in sides]) / 255
    color = np.median(border, axis=0)
    close = np.abs(border - color).max(axis=-1) <= TOLERANCE
    return color if close.mean() >= UNIFORM_SHARE else None


def matte(image: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Cut an object out of a uniform background.

    Args:
        image: uint8, [H, W, 3 or more]; only RGB is used.
        background: sRGB in [0, 1], [3].

    Returns:
        RGBA with straight alpha, uint8, [H, W, 4]; composited over `background` it equals `image`.
    """
    rgb = image[..., :3].astype(np.float32) / 255
    outside = _flood_from_border(np.abs(rgb - background).max(axis=-1) <= TOLERANCE)
    if not outside.any():
        return np.concatenate([image[..., :3], np.full_like(image[..., :1], 255)], axis=-1)
    band = ~outside & (np.asarray(ndimage.distance_transform_edt(~outside)) <= BAND_PX)
    alpha = np.where(outside, 0.0, 1.0)
    rgb[outside] = background
    rgb[band], alpha[band] = _unmix(rgb[band], _foreground(rgb, band, background), background)
    return np.rint(255 * np.dstack([rgb, alpha])).astype(np.uint8)


def _flood_from_border(close: np.ndarray) -> np.ndarray:
    """Return the part of a mask that is connected to the border of the image, bool, [H, W]."""
    seeds = close.copy()
    seeds[1:-1, 1:-1] = False
    return ndimage.binary_propagation(seeds, mask=close)


def _foreground(rgb: np.ndarray, band: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return the color around each band pixel that is least similar to the background, [K, 3]."""
    height, width = band.shape
    offsets = np.arange(-WINDOW_PX, WINDOW_PX + 1)
    row_offsets, column_offsets = (grid.ravel() for grid in np.meshgrid(offsets, offsets))
    rows, columns = np.nonzero(band)
    around = rgb[
        np.clip(rows[:, None] + row_offsets, 0, height - 1),
        np.clip(columns[:, None] + column_offsets, 0, width - 1),
    ]
    best = np.abs(around - background).sum(axis=-1).argmax(axis=1)
    return around[np.arange(len(rows)), best]


def _unmix(
    mixed: np.ndarray, foreground: np.ndarray, background: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve C = α F + (1 − α) B for α [K]; return F [K, 3] and α, or C and 1 if C is no mix."""
    span = foreground - background
    ratio = ((mixed - background) * span).sum(-1) / np.maximum((span**2).sum(-1), 1e-8)
    alpha = ratio.clip(0, 1)
    error = np.abs(background + alpha[:, None] * span - mixed).max(axis=-1)
    is_mix = error <= 2 * TOLERANCE
    return np.where(is_mix[:, None], foreground, mixed), np.where(is_mix, alpha, 1.0)
