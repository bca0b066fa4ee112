"""The transfer function of sRGB, between encoded values and linear light."""

from __future__ import annotations

import numpy as np


def linear_from_srgb(srgb: np.ndarray) -> np.ndarray:
    """Decode sRGB in [0, 1] to linear light in [0, 1], any shape.

    Source: IEC 61966-2-1.
    """
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0) + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(linear: np.ndarray) -> np.ndarray:
    """Encode linear light in [0, 1] as sRGB in [0, 1]; inverse of `linear_from_srgb`."""
    return np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055
    )
