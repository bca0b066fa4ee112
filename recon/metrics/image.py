"""Image metrics: PSNR, SSIM and IoU of silhouettes.

Letters: H × W pixels. Images are sRGB in [0, 1], float, composited over a background.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from skimage.metrics import structural_similarity

from recon.errors import InputError
from recon.metrics.interface import ImagePair

MAX_PSNR = 100.0  # of equal images, so that means and JSON stay finite
WINDOW_PX = 11  # a Gaussian with σ = 1.5, truncated at 3.5 σ, as in Wang et al. 2004
SILHOUETTE = 0.5  # alpha above which a pixel is inside


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Compute the PSNR in dB for a peak of 1, at most `MAX_PSNR`. Any equal shapes."""
    mse = float(np.mean((image.astype(np.float64) - truth) ** 2))
    return min(MAX_PSNR, -10 * math.log10(mse)) if mse > 0 else MAX_PSNR


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Compute SSIM with the window of Wang et al. 2004 (Gaussian, σ = 1.5, 11 × 11).

    The result equals that of skimage, but is computed only around pixels that differ, because the
    similarity of equal windows is 1.

    Args:
        image: image to rate, [H, W, 3].
        truth: true image, [H, W, 3].

    Raises:
        InputError: the images are smaller than the window.
    """
    height, width = truth.shape[:2]
    if min(height, width) < WINDOW_PX:
        raise InputError(
            f"SSIM needs images of at least {WINDOW_PX}×{WINDOW_PX} pixels, found {width}×{height}"
        )
    radius = WINDOW_PX // 2
    inside = np.zeros((height, width), dtype=bool)  # windows entirely inside the image
    inside[radius : height - radius, radius : width - radius] = True
    # With this margin the crop contains every window with a difference, and at least one window.
    crop = bounding_box((image != truth).any(axis=-1), margin=2 * radius)
    if crop is None:
        return 1.0
    similarity = np.ones((height, width))
    similarity[crop] = _similarity_map(image[crop], truth[crop])
    return float(similarity[inside].mean())


def silhouette_iou(alpha: np.ndarray, truth: np.ndarray) -> float:
    """Compute the IoU of the pixels with alpha above 0.5; 1 if neither image has any."""
    mask, true_mask = alpha > SILHOUETTE, truth > SILHOUETTE
    union = np.count_nonzero(mask | true_mask)
    return float(np.count_nonzero(mask & true_mask) / union) if union else 1.0


class Psnr:
    """PSNR of the image, and in the bounding box of the true alpha (None if that is empty)."""

    name = "psnr"
    settings: Mapping[str, Any] = {}

    def measure(self, pair: ImagePair) -> dict[str, float | None]:
        """Return dB under "psnr" and "psnr_foreground"."""
        box = bounding_box(pair.true_alpha > 0)
        inside = None if box is None else psnr(pair.rgb[box], pair.true_rgb[box])
        return {"psnr": psnr(pair.rgb, pair.true_rgb), "psnr_foreground": inside}


class Ssim:
    """SSIM of the image; see `ssim`."""

    name = "ssim"
    settings: Mapping[str, Any] = {"window_px": WINDOW_PX, "sigma_px": 1.5}

    def measure(self, pair: ImagePair) -> dict[str, float | None]:
        """Return the similarity under "ssim"."""
        return {"ssim": ssim(pair.rgb, pair.true_rgb)}


class Iou:
    """IoU of the silhouettes; see `silhouette_iou`."""

    name = "iou"
    settings: Mapping[str, Any] = {"threshold": SILHOUETTE}

    def measure(self, pair: ImagePair) -> dict[str, float | None]:
        """Return the IoU under "iou"."""
        return {"iou": silhouette_iou(pair.alpha, pair.true_alpha)}


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice] | None:
    """Return rows and columns of the bounding box of a mask; None if the mask is empty.

    Args:
        mask: bool, [H, W].
        margin: pixels added on every side, clipped to the image.
    """
    if not mask.any():
        return None
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    return _span(rows, height, margin), _span(columns, width, margin)


def _span(where: np.ndarray, length: int, margin: int) -> slice:
    return slice(max(0, int(where.min()) - margin), min(length, int(where.max()) + 1 + margin))


def _similarity_map(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """SSIM at each pixel, mean over the channels, [H, W]."""
    result = structural_similarity(
        image.astype(np.float64),
        truth.astype(np.float64),
        data_range=1.0,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return np.asarray(result[1]).mean(axis=-1)
