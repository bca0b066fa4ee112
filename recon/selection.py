"""Choice of some out of many by their index: evenly spaced, or nearest to given values."""

from __future__ import annotations

import numpy as np


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """Return at most `wanted` evenly spaced indices below `count`, the first and last included."""
    places = np.linspace(0, count - 1, min(wanted, count)).round()
    return [int(place) for place in places]


def nearest(ascending: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the index of the value nearest to each target, the first one of a tie, [T].

    Args:
        ascending: values, at least one, [n].
        targets: [T].
    """
    middles = (ascending[1:] + ascending[:-1]) / 2
    return np.searchsorted(middles, targets - 1e-9)  # a tie stays one when rounded


def distinct(indices: np.ndarray, count: int) -> np.ndarray:
    """Return the nearest strictly ascending indices below `count` to ascending ones, [T].

    Args:
        indices: ascending indices, some of which may be equal, [T].
        count: number of things to choose from, at least T.
    """
    steps = np.arange(len(indices))
    ascending = np.maximum.accumulate(indices - steps) + steps
    return np.minimum(ascending, count - len(indices) + steps)
