"""Guidance scales: one number for each frame.

Letters: T times, V views, F frames; frame f = t·V + v.
"""

from __future__ import annotations

import torch
from torch import Tensor


def triangle(count: int) -> Tensor:
    """0 at both ends, 1 in the middle, which an even number of places has none of, [count]."""
    return 1 - (2 * torch.linspace(0, 1, count) - 1).abs()


def orbit_scale(frames: int, low: float, high: float) -> Tensor:
    """Strongest half-way around an orbit, [F]."""
    return low + (high - low) * triangle(frames)


def linear_scale(frames: int, low: float, high: float) -> Tensor:
    """Rising along the flat list of frames, [F]."""
    return torch.linspace(low, high, frames)


def space_time_scale(times: int, views: int, low: float, high: float) -> Tensor:
    """Rising with time and strongest at the views half-way around, [T·V]."""
    share = 0.5 * torch.linspace(0, 1, times)[:, None] + 0.5 * triangle(views)
    return (low + (high - low) * share).flatten()
