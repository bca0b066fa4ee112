"""Alpha of images that have none, from masks or from a background of one color.

Letters: M images, H × W pixels.
"""

from __future__ import annotations

import logging

import numpy as np
from PIL import Image

from recon.grid.matte import border_color, matte

OPAQUE_BORDER_SHARE = 0.5  # of the border pixels; an object alone rarely covers so many

_log = logging.getLogger(__name__)


def with_alpha(images: np.ndarray) -> tuple[np.ndarray, bool]:
    """Estimate the alpha of images without it, in place.

    Images with an alpha of 255 everywhere count as images without alpha, because many tools write
    RGBA without a mask.

    Args:
        images: RGBA, uint8, [M, H, W, 4].

    Returns:
        The images; over any but a uniform background they stay opaque. And whether all of them
        had alpha before.
    """
    opaque = np.flatnonzero([(image[..., 3] == 255).all() for image in images])
    if len(opaque) == 0:
        return images, True
    background = border_color(images if len(opaque) == len(images) else images[opaque])
    if background is not None:
        for index in opaque:
            images[index] = matte(images[index], background)
    return images, False


def with_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Multiply the alpha of an image by a mask.

    Args:
        image: RGBA, uint8, [H, W, 4].
        mask: as `read_image` returns it, bright (or opaque) where the object is, of any size of
            the same shape; of two values, the larger one is the object's. RGBA, uint8, [h, w, 4].

    Returns:
        RGBA, uint8, [H, W, 4].
    """
    luminance, alpha = mask[..., :3].max(axis=-1), mask[..., 3]
    inside = alpha if alpha.min() < 255 and alpha.any() else luminance  # also cut-outs are masks
    values = np.unique(inside)
    if len(values) <= 2 and values[-1] > 0:  # such as 0 and 1, or the color of a palette
        inside = np.where(inside == values[-1], 255, 0).astype(np.uint8)
    height, width = image.shape[:2]
    if inside.shape != (height, width):
        inside = np.asarray(Image.fromarray(inside).resize((width, height), Image.Resampling.BOX))
    result = image.copy()
    result[..., 3] = np.rint(image[..., 3] * (inside / 255.0))
    return result


def warn_of_background(images: np.ndarray) -> None:
    """Warn if most images are opaque along most of their border.

    Args:
        images: RGBA, uint8, [M, H, W, 4].
    """
    alpha = images[..., 3]
    sides = (alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1])
    border = np.concatenate(sides, axis=1) > 127
    opaque = int((border.mean(axis=1) > OPAQUE_BORDER_SHARE).sum())
    if 2 * opaque > len(images):
        _log.warning(
            "nothing is cut out of %d of %d images: their background becomes part of the object; "
            "give the images alpha, masks (`mask_path`, `fourdvd grid --masks`), or a background "
            "of one color",
            opaque,
            len(images),
        )
