"""Functions on the sphere: real spherical harmonics up to degree 3, and evenly spread directions.

The harmonics are those of 3D Gaussian splatting. Letters: K = (degree + 1)² coefficients, ordered
by degree l, then from −l to l, with the Condon-Shortley phase: degree 1 is proportional to
(−y, z, −x).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Evaluate the basis functions in unit directions, [..., 3] → [..., (degree + 1)²]."""
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, 0.28209479177387814)]
    if degree >= 1:
        values += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        values += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (3 * z * z - 1),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree >= 3:
        values += [
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (5 * z * z - 1),
            0.3731763325901154 * z * (5 * z * z - 3),
            -0.4570457994644658 * x * (5 * z * z - 1),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(values, dim=-1)


def sh_to_rgb(coefficients: Tensor, directions: Tensor) -> Tensor:
    """Evaluate view-dependent colors.

    Args:
        coefficients: [N, K, 3] with K in 1, 4, 9, 16.
        directions: from the camera to each Gaussian, any length, [..., N, 3].

    Returns:
        sRGB colors, [..., N, 3]: 0.5 is added and negative values are clamped to 0, as in gsplat.
    """
    degree = {1: 0, 4: 1, 9: 2, 16: 3}[coefficients.shape[-2]]
    unit = torch.nn.functional.normalize(directions, dim=-1)
    basis = sh_basis(unit, degree)
    return (torch.einsum("...nk,nkc->...nc", basis, coefficients) + 0.5).clamp_min(0)


def rotate_sh(coefficients: Tensor, rotation: Tensor) -> Tensor:
    """Rotate a function on the sphere: its value along d moves to the direction `rotation @ d`.

    The coefficients are solved for from samples of the rotated function in fixed directions. A
    rotation maps each degree onto itself, so the solution is exact.

    Args:
        coefficients: [N, K, 3] with K in 1, 4, 9, 16.
        rotation: rotation matrix, [3, 3].

    Returns:
        Coefficients of the same shape and dtype.
    """
    count = coefficients.shape[-2]
    degree = {1: 0, 4: 1, 9: 2, 16: 3}[count]
    directions = torch.as_tensor(fibonacci_sphere(4 * count), device=coefficients.device)
    before = sh_basis(directions, degree)
    after = sh_basis(directions @ rotation.to(directions).T, degree)
    matrix = torch.linalg.lstsq(after, before).solution
    return (matrix @ coefficients.to(matrix)).to(coefficients)


def fibonacci_sphere(count: int) -> np.ndarray:
    """Spread unit vectors evenly on a golden-angle spiral from +Z to −Z, [count, 3]."""
    index = np.arange(count)
    z = 1 - (2 * index + 1) / count
    radius = np.sqrt(1 - z * z)
    angle = GOLDEN_ANGLE * index
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=-1)
