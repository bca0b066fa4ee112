"""Numbers as sinusoids, and the two-layer perceptrons that turn them into features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MAX_PERIOD = 10_000


def sinusoidal_embedding(values: Tensor, width: int) -> Tensor:
    """Cos and sin of each value at width/2 frequencies that fall from 1 towards 1/10000.

    Args:
        values: any numbers (times, indices, radians), [...].
        width: even.

    Returns:
        [cos | sin], float32 whatever the values are, [..., width].

    Source: Vaswani et al. 2017, §3.5; the order and the frequencies are those of SV3D and SV4D.
    """
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=values.device) / half
    frequencies = torch.exp(-math.log(MAX_PERIOD) * exponents)
    angles = values.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def embedding_mlp(width_in: int, width: int, width_out: int) -> nn.Sequential:
    """Linear, SiLU, Linear."""
    return nn.Sequential(nn.Linear(width_in, width), nn.SiLU(), nn.Linear(width, width_out))
