"""Real spherical harmonics up to degree 3, as 3D Gaussian splatting uses them.

Letters: K = (degree + 1)² coefficients, in order of degree, then from −l to l. With the
Condon-Shortley phase, so that degree 1 is proportional to (−y, z, −x).
"""

from __future__ import annotations

import torch
from torch import Tensor

from recon.sphere import fibonacci_sphere


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Values of the basis functions in unit directions, [..., 3] → [..., (degree + 1)²]."""
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
    """Colours seen along directions.

    Args:
        coefficients: [N, K, 3] with K in 1, 4, 9, 16.
        directions: from the camera to the Gaussian, any length, [..., N, 3].

    Returns:
        sRGB, 0.5 added and clamped below at 0 as in gsplat, [..., N, 3].
    """
    degree = {1: 0, 4: 1, 9: 2, 16: 3}[coefficients.shape[-2]]
    unit = torch.nn.functional.normalize(directions, dim=-1)
    basis = sh_basis(unit, degree)
    return (torch.einsum("...nk,nkc->...nc", basis, coefficients) + 0.5).clamp_min(0)


def rotate_sh(coefficients: Tensor, rotation: Tensor) -> Tensor:
    """Coefficients of the turned function: what was seen along d is then seen along `rotation @ d`.

    The rotated function is sampled in fixed directions and its coefficients are solved for. A
    rotation maps each degree onto itself, so the solution is exact.

    Args:
        coefficients: [N, K, 3] with K in 1, 4, 9, 16.
        rotation: a rotation matrix, [3, 3].

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
