"""3D Gaussians with color, as unconstrained parameters.

Letters: N Gaussians, K = (degree + 1)² − 1 higher spherical-harmonic coefficients.
Frame: world, right-handed, +Z up. Quaternions are wxyz and need not be normalized.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SH_C0 = 0.28209479177387814  # Y_0^0 = 1 / (2 sqrt(pi))


class Gaussians(NamedTuple):
    """N anisotropic Gaussians.

    Attributes:
        means: centers in world units, [N, 3].
        quats: rotations from the principal axes to the world, wxyz, any length, [N, 4].
        scales: natural logarithm of the standard deviations along the principal axes, [N, 3].
        opacities: logit of the peak opacity, [N].
        sh0: constant spherical-harmonic coefficient of the color, [N, 1, 3];
            rgb = 0.5 + SH_C0 * sh0, sRGB, nominally in [0, 1].
        shN: coefficients of degree 1 and up, coefficient-major, [N, K, 3].
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh0: Tensor
    shN: Tensor

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3."""
        return {0: 0, 3: 1, 8: 2, 15: 3}[self.shN.shape[1]]

    @property
    def sh(self) -> Tensor:
        """All coefficients, [N, 1 + K, 3]."""
        return torch.cat([self.sh0, self.shN], dim=1)

    def map(self, function: Callable[[Tensor], Tensor]) -> Gaussians:
        """Apply a function to each tensor, to move, cast or index them."""
        return Gaussians(*(function(tensor) for tensor in self))


def rgb_to_sh0(rgb: Tensor) -> Tensor:
    """Convert colors in [0, 1] to constant coefficients; inverse of `sh0_to_rgb`. Any shape."""
    return (rgb - 0.5) / SH_C0


def sh0_to_rgb(sh0: Tensor) -> Tensor:
    """Convert constant coefficients to colors, not clamped; inverse of `rgb_to_sh0`. Any shape."""
    return 0.5 + SH_C0 * sh0


def gaussians_from_points(
    points: Tensor, rgb: Tensor, sigma: Tensor | float, opacity: float = 0.5, sh_degree: int = 0
) -> Gaussians:
    """Make isotropic Gaussians at given points.

    Args:
        points: centers, [N, 3].
        rgb: colors in [0, 1], [N, 3].
        sigma: standard deviation in world units, a number or [N].
        opacity: peak opacity of all Gaussians, in (0, 1).
        sh_degree: degree of the spherical harmonics; higher coefficients are zero.

    Returns:
        N Gaussians without rotation.
    """
    count = points.shape[0]
    sigmas = torch.as_tensor(sigma, dtype=points.dtype, device=points.device).expand(count)
    quats = points.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1)
    logit = torch.logit(points.new_full((count,), opacity))
    return Gaussians(
        means=points.clone(),
        quats=quats,
        scales=sigmas.log()[:, None].repeat(1, 3),
        opacities=logit,
        sh0=rgb_to_sh0(rgb)[:, None, :].clone(),
        shN=points.new_zeros(count, (sh_degree + 1) ** 2 - 1, 3),
    )
