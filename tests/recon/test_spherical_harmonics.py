import math

import numpy as np
import pytest
import torch
from scipy.special import lpmv
from torch import Tensor

from recon.gaussians import SH_C0, rgb_to_sh0
from recon.rotations import quats_to_matrices
from recon.spherical_harmonics import rotate_sh, sh_basis, sh_to_rgb

GENERATOR = torch.Generator().manual_seed(1)
TURN = quats_to_matrices(torch.randn(4, generator=GENERATOR, dtype=torch.float64))


def directions_and_weights() -> tuple[Tensor, Tensor]:
    """A quadrature of the sphere that is exact for polynomials up to degree 15."""
    heights, height_weights = np.polynomial.legendre.leggauss(8)
    azimuths = 2 * np.pi * np.arange(16) / 16
    z, azimuth = (axis.ravel() for axis in np.meshgrid(heights, azimuths, indexing="ij"))
    radius = np.sqrt(1 - z**2)
    directions = np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=1)
    weights = np.repeat(height_weights, 16) * 2 * np.pi / 16
    return torch.from_numpy(directions), torch.from_numpy(weights)


def legendre_form(directions: Tensor, degree: int) -> np.ndarray:
    """Real spherical harmonics from associated Legendre functions, which carry the phase (−1)^m."""
    x, y, z = directions.numpy().T
    azimuth = np.arctan2(y, x)
    columns = []
    for l in range(degree + 1):  # noqa: E741 - the letter of the field
        for m in range(-l, l + 1):
            n = abs(m)
            norm = math.sqrt(
                (2 * l + 1) / (4 * math.pi) * math.factorial(l - n) / math.factorial(l + n)
            )
            wave = np.sin(n * azimuth) if m < 0 else np.cos(n * azimuth)
            columns.append((norm if m == 0 else math.sqrt(2) * norm) * lpmv(n, l, z) * wave)
    return np.stack(columns, axis=1)


def test_the_basis_is_orthonormal_over_the_sphere():
    directions, weights = directions_and_weights()
    basis = sh_basis(directions, 3)
    gram = basis.T @ (weights[:, None] * basis)
    np.testing.assert_allclose(gram, np.eye(16), atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_basis_is_that_of_the_associated_legendre_functions(degree: int):
    directions, _ = directions_and_weights()
    found = sh_basis(directions, degree)
    np.testing.assert_allclose(found, legendre_form(directions, degree), atol=1e-12)


def test_a_higher_degree_only_adds_columns():
    directions, _ = directions_and_weights()
    for degree in (0, 1, 2):
        columns = (degree + 1) ** 2
        assert torch.equal(sh_basis(directions, degree), sh_basis(directions, 3)[:, :columns])


def test_degree_zero_is_the_same_color_from_everywhere():
    rgb = torch.rand(5, 3, dtype=torch.float64)
    directions = torch.randn(4, 5, 3, dtype=torch.float64)
    found = sh_to_rgb(rgb_to_sh0(rgb)[:, None], directions)
    torch.testing.assert_close(found, rgb.expand(4, 5, 3))
    assert sh_basis(directions, 0).unique().item() == SH_C0


def test_the_length_of_a_direction_does_not_matter():
    coefficients = torch.randn(5, 16, 3, dtype=torch.float64)
    directions = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(
        sh_to_rgb(coefficients, directions), sh_to_rgb(coefficients, 7 * directions)
    )


def test_colors_are_the_sum_of_the_basis_and_not_negative():
    coefficients = torch.randn(50, 9, 3, dtype=torch.float64)
    directions = torch.randn(50, 3, dtype=torch.float64)
    unit = directions / directions.norm(dim=1, keepdim=True)
    expected = np.einsum("nk,nkc->nc", legendre_form(unit, 2), coefficients.numpy()) + 0.5
    assert (expected < 0).any()
    np.testing.assert_allclose(
        sh_to_rgb(coefficients, directions), np.maximum(expected, 0), atol=1e-12
    )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_rotated_function_has_the_old_values_in_rotated_directions(degree: int):
    coefficients = torch.randn(7, (degree + 1) ** 2, 3, generator=GENERATOR, dtype=torch.float64)
    directions = torch.nn.functional.normalize(
        torch.randn(100, 3, generator=GENERATOR, dtype=torch.float64), dim=-1
    )
    rotated = rotate_sh(coefficients, TURN)
    before = torch.einsum("dk,nkc->ndc", sh_basis(directions, degree), coefficients)
    after = torch.einsum("dk,nkc->ndc", sh_basis(directions @ TURN.T, degree), rotated)
    torch.testing.assert_close(after, before, atol=1e-12, rtol=0)


def test_degrees_do_not_mix_under_rotation():
    coefficients = torch.zeros(1, 16, 3, dtype=torch.float64)
    coefficients[:, 4:9] = 1
    rotated = rotate_sh(coefficients, TURN)
    assert rotated[:, :4].abs().max() < 1e-12
    assert rotated[:, 9:].abs().max() < 1e-12
