"""Noise levels from much noise to none."""

from __future__ import annotations

import torch
from torch import Tensor

SIGMA_MIN = 0.002
SIGMA_MAX = 700.0
RHO = 7.0


def karras_sigmas(
    steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = RHO
) -> Tensor:
    """Noise levels of a run, evenly spaced in σ^(1/ρ), and a 0 at the end.

    Args:
        steps: network calls, at least 1.
        sigma_min: the last level before 0.
        sigma_max: the first level.
        rho: how much denser the levels are where there is little noise.

    Returns:
        Descending, float32, [steps + 1].

    Source: Karras et al. 2022, eq. 5; the values with which SV3D and SV4D are sampled.
    """
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()
