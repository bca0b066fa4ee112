"""How like two images are: PSNR, SSIM, silhouette IoU.

Letters: H × W pixels. Images are sRGB in [0, 1], float, already over a background. What it does
not know: scenes, cameras, which images belong together.
"""

from __future__ import annotations

import math

import numpy as np
from skimage.metrics import structural_similarity

from recon.errors import InputError

MAX_PSNR = 100.0  # of equal images, so that every number fits into JSON and a mean
WINDOW_PX = 11  # of a Gaussian with σ = 1.5 that is cut at 3.5 σ, as Wang et al. 2004 have it
SILHOUETTE = 0.5


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 1; `MAX_PSNR` at most. Any equal shapes."""
    mse = float(np.mean((image.astype(np.float64) - truth) ** 2))
    return min(MAX_PSNR, -10 * math.log10(mse)) if mse > 0 else MAX_PSNR


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity with the window of Wang et al. 2004 (Gaussian, σ = 1.5, 11 × 11).

    It equals skimage's number, but is computed only around the pixels that differ: where all of a
    window is equal the similarity is 1.

    Args:
        image: [H, W, 3].
        truth: [H, W, 3].

    Raises:
        InputError: the images are smaller than the window.
    """
    height, width = truth.shape[:2]
    if min(height, width) < WINDOW_PX:
        raise InputError(
            f"SSIM needs images of at least {WINDOW_PX}×{WINDOW_PX} pixels, found {width}×{height}"
        )
    radius = WINDOW_PX // 2
    inside = np.zeros((height, width), dtype=bool)  # windows that do not reach over the edge
    inside[radius : height - radius, radius : width - radius] = True
    # With this margin the crop holds every window in which something differs, and one whole window.
    crop = bounding_box((image != truth).any(axis=-1), margin=2 * radius)
    if crop is None:
        return 1.0
    similarity = np.ones((height, width))
    similarity[crop] = _similarity_map(image[crop], truth[crop])
    return float(similarity[inside].mean())


def silhouette_iou(alpha: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of where alpha, in [0, 1], is above a half; 1 if nowhere in both."""
    mask, true_mask = alpha > SILHOUETTE, truth > SILHOUETTE
    union = np.count_nonzero(mask | true_mask)
    return float(np.count_nonzero(mask & true_mask) / union) if union else 1.0


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice] | None:
    """Rows and columns of the box around a mask, or None if it is empty.

    Args:
        mask: bool, [H, W].
        margin: pixels added on every side, as far as there are any.
    """
    if not mask.any():
        return None
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    return _span(rows, height, margin), _span(columns, width, margin)


def _span(where: np.ndarray, length: int, margin: int) -> slice:
    return slice(max(0, int(where.min()) - margin), min(length, int(where.max()) + 1 + margin))


def _similarity_map(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean over the channels at each pixel, [H, W]."""
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
