"""Directions spread evenly over the unit sphere."""

from __future__ import annotations

import numpy as np

GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))


def fibonacci_sphere(count: int) -> np.ndarray:
    """Unit vectors on a golden-angle spiral from the upper pole (+Z) to the lower, [count, 3]."""
    index = np.arange(count)
    z = 1 - (2 * index + 1) / count
    radius = np.sqrt(1 - z * z)
    angle = GOLDEN_ANGLE * index
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=-1)
