"""The sRGB transfer function: what images store against what glTF's vertex colours are.

Source: IEC 61966-2-1.
"""

from __future__ import annotations

import numpy as np


def linear_from_srgb(srgb: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] of sRGB in [0, 1]; inverse of `srgb_from_linear`. Any shape."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0) + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(linear: np.ndarray) -> np.ndarray:
    """SRGB in [0, 1] of linear light in [0, 1]. Any shape."""
    return np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055
    )
