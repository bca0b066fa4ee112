"""Sharpness: the mean absolute difference of neighboring pixels, relative to the truth.

1 is as sharp as the truth, less is blurred, more is noisy. It compares no structure, so it says
nothing alone; beside PSNR, which rewards blur, it shows where a high value comes from.
Letters: H × W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recon.metrics.interface import ImagePair


def contrast(image: np.ndarray) -> float:
    """Return the mean absolute difference of horizontal plus that of vertical neighbors.

    Args:
        image: in [0, 1], [H, W, 3], at least 2 × 2 pixels.
    """
    return sum(float(np.abs(np.diff(image, axis=axis)).mean()) for axis in (0, 1))


class Sharpness:
    """The contrast of an image over that of the true one; None if the true one has none."""

    name = "sharpness"
    settings: Mapping[str, Any] = {}

    def measure(self, pair: ImagePair) -> dict[str, float | None]:
        """Return the ratio under "sharpness"."""
        truth = contrast(pair.true_rgb)
        return {"sharpness": contrast(pair.rgb) / truth if truth > 0 else None}
