"""Quantization of weights that sum to 1 to integers that sum to their largest value."""

from __future__ import annotations

import numpy as np


def quantized_weights(weights: np.ndarray, total: int) -> np.ndarray:
    """Round weights to multiples of 1 / `total` so that each row still sums to 1.

    Rows are rounded down, and what is missing is given to the largest remainders.

    Args:
        weights: non-negative, with a positive sum in each row, [P, k].
        total: sum of each row of the result.

    Returns:
        Non-negative integers, int64, [P, k].
    """
    exact = total * weights / weights.sum(axis=1, keepdims=True)
    levels = np.floor(exact).astype(np.int64)
    missing = total - levels.sum(axis=1, keepdims=True)
    rank = np.argsort(np.argsort(levels - exact, axis=1, kind="stable"), axis=1, kind="stable")
    return levels + (rank < missing)
