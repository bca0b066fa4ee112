import pytest
import torch

from recon.rotations import quats_to_matrices
from recon.spherical_harmonics import rotate_sh, sh_basis

GENERATOR = torch.Generator().manual_seed(1)
TURN = quats_to_matrices(torch.randn(4, generator=GENERATOR, dtype=torch.float64))


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
