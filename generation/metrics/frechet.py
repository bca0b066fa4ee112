"""Distances of the features of videos: of one video and one video, and of two sets of videos.

The "FVD" that the literature on 4D generation prints is not a Fréchet distance of sets: one video
is compared with one video, whose covariance `numpy.cov` of releases before 2.2 took as the variance
σ² over the features of the video; later releases return NaN. With C features x, y:

    pair    |x − y|² + (σ_x − σ_y)²,   σ² = Σ_c (x_c − mean x)² / (C − 1)
    set     |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)

Source: https://github.com/yanqinJiang/Consistent4D/blob/e6d3e2584b04e7fdc574094913dee9d1b407e217/evaluation/compute_fvd.py;
https://numpy.org/doc/stable/release/2.2.0-notes.html (gh-27661); Dowson & Landau 1982.
"""

from __future__ import annotations

import numpy as np

from recon.errors import InputError


def pair_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the published distance of two videos by their features, each [C].

    The same for every version of NumPy.
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    return float(((a - b) ** 2).sum() + (a.std(ddof=1) - b.std(ddof=1)) ** 2)


def set_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the Fréchet distance of two sets of videos by their features, [n, C] and [m, C].

    The trace of (Σ₁ Σ₂)^½ is the nuclear norm of A Bᵀ, where A and B are the centered features over
    √(n − 1): exact also where n is less than C, and without the square root of a matrix. The
    distance of sets much smaller than C is biased upwards.

    Raises:
        InputError: a set has fewer than two videos.
    """
    if min(len(first), len(second)) < 2:
        raise InputError(
            f"a Fréchet distance needs at least 2 videos on each side, found {len(first)} and "
            f"{len(second)}; use --fvd pair"
        )
    means = [each.astype(np.float64).mean(axis=0) for each in (first, second)]
    a, b = (
        (each - mean) / np.sqrt(len(each) - 1)
        for each, mean in zip((first, second), means, strict=True)
    )
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    traces = (a**2).sum() + (b**2).sum()
    return float(((means[0] - means[1]) ** 2).sum() + max(traces - 2 * cross, 0.0))
