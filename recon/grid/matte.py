"""Alpha for images that come without it, from a background of one colour.

    rgb ──border colour──▶ B ──flood from the border──▶ background ──band around it──▶ alpha, colour

Only what is connected to the border is background, so white parts inside the object stay. In the
band between, the pixel C = α F + (1 − α) B is a mix of B and the colour F of the nearest pixel
inside the object. Letters: M images, H × W pixels. What it does not know: background of many
colours.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

TOLERANCE = 12 / 255  # what video compression adds to a plain colour
UNIFORM_SHARE = 0.6  # of all border pixels; the rest may be an object that leaves the image
BAND_PX = 1.5
REACH_PX = 4.0  # farther away, the nearest inner pixel says nothing about a colour


def border_colour(images: np.ndarray) -> np.ndarray | None:
    """The colour that surrounds the object in all images, or None if it is not one colour.

    Args:
        images: uint8, [M, H, W, 3 or more].

    Returns:
        sRGB in [0, 1], [3].
    """
    sides = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    border = np.concatenate([side[..., :3].reshape(-1, 3) for side in sides]) / 255
    colour = np.median(border, axis=0)
    close = np.abs(border - colour).max(axis=-1) <= TOLERANCE
    return colour if close.mean() >= UNIFORM_SHARE else None


def matte(image: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Cuts an object out of a plain background.

    Args:
        image: uint8, [H, W, 3 or more]; only RGB is looked at.
        background: sRGB in [0, 1], [3].

    Returns:
        RGBA with straight alpha, uint8, [H, W, 4]; over `background` it looks like `image`.
    """
    rgb = image[..., :3].astype(np.float32) / 255
    outside = _flood_from_border(np.abs(rgb - background).max(axis=-1) <= TOLERANCE)
    if not outside.any():
        return np.concatenate([image[..., :3], np.full_like(image[..., :1], 255)], axis=-1)
    distance_px = np.asarray(ndimage.distance_transform_edt(~outside))
    band = ~outside & (distance_px <= BAND_PX)
    alpha = np.where(outside, 0.0, 1.0)
    inner, known = _nearest_inner_colour(rgb, inside=distance_px > BAND_PX)
    mixed = band & known
    alpha[mixed] = _mixing_ratio(rgb[mixed], inner[mixed], background)
    colour = np.where(mixed[..., None], inner, rgb)
    colour = np.where(outside[..., None], background, colour)
    return np.rint(255 * np.dstack([colour, alpha])).astype(np.uint8)


def _flood_from_border(close: np.ndarray) -> np.ndarray:
    """The part of a mask that is connected to the border of the image, bool [H, W]."""
    seeds = close.copy()
    seeds[1:-1, 1:-1] = False
    return ndimage.binary_propagation(seeds, mask=close)


def _nearest_inner_colour(rgb: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour of the nearest inner pixel, [H, W, 3], and whether it is within reach, [H, W]."""
    if not inside.any():
        return rgb, np.zeros_like(inside)
    rows, columns = np.asarray(
        ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    )
    own_row, own_column = np.indices(inside.shape)
    distance_px = np.hypot(rows - own_row, columns - own_column)
    return rgb[rows, columns], distance_px <= REACH_PX


def _mixing_ratio(mixed: np.ndarray, inner: np.ndarray, background: np.ndarray) -> np.ndarray:
    """α in [0, 1] for which α F + (1 − α) B is nearest to C, [K]; 1 where F is hardly not B."""
    span = inner - background
    length2 = (span**2).sum(axis=-1)
    ratio = ((mixed - background) * span).sum(axis=-1) / np.maximum(length2, 1e-8)
    return np.where(length2 > (2 * TOLERANCE) ** 2, ratio.clip(0, 1), 1.0)
