import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from recon.rotations import (
    invert_quats,
    matrices_to_quats,
    multiply_quats,
    quats_to_matrices,
    rigid_motion,
)


def random_quats(count: int = 200, seed: int = 0) -> Tensor:
    """Unit quaternions, uniformly distributed, [count, 4] in float64."""
    generator = torch.Generator().manual_seed(seed)
    quats = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return quats / quats.norm(dim=-1, keepdim=True)


def half_turns() -> Tensor:
    """Rotations by 180 degrees and nearly so, about the axes, their diagonals and random axes."""
    directions = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, -1, 1], [1, 1, 1], [-0.3, 0.2, 1]]
    axes = torch.tensor(directions, dtype=torch.float64)
    axes = axes / axes.norm(dim=-1, keepdim=True)
    angles = [math.pi, math.pi - 1e-3, math.pi + 1e-3, math.pi - 1e-7]
    return torch.cat(
        [
            torch.cat([torch.full((len(axes), 1), math.cos(a / 2)), math.sin(a / 2) * axes], dim=1)
            for a in angles
        ]
    )


def test_matrices_are_those_of_scipy():
    quats = random_quats()
    expected = Rotation.from_quat(quats.numpy(), scalar_first=True).as_matrix()
    np.testing.assert_allclose(quats_to_matrices(quats), expected, atol=1e-14)


def test_the_length_and_the_sign_of_a_quaternion_do_not_matter():
    quats = random_quats()
    for factor in (-1.0, 0.01, 30.0):
        torch.testing.assert_close(quats_to_matrices(factor * quats), quats_to_matrices(quats))


def test_matrices_are_rotations():
    matrices = quats_to_matrices(random_quats())
    eye = torch.eye(3, dtype=torch.float64).expand_as(matrices)
    torch.testing.assert_close(matrices @ matrices.transpose(1, 2), eye)
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(200, dtype=torch.float64))


@pytest.mark.parametrize("quats", [random_quats(), half_turns()], ids=["random", "half turns"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_quaternion_survives_the_round_trip_through_its_matrix(quats: Tensor, dtype: torch.dtype):
    back = matrices_to_quats(quats_to_matrices(quats.to(dtype)))
    assert (back[:, 0] >= 0).all()
    cosine = (back * quats.to(dtype)).sum(-1).abs()
    tolerance = 1e-14 if dtype == torch.float64 else 1e-6
    np.testing.assert_allclose(cosine, 1, atol=tolerance)
    signs = torch.where((back * quats.to(dtype)).sum(-1, keepdim=True) < 0, -1, 1)
    np.testing.assert_allclose(back * signs, quats, atol=math.sqrt(tolerance) / 100)


def test_quaternions_of_matrices_are_those_of_scipy():
    matrices = quats_to_matrices(torch.cat([random_quats(), half_turns()]))
    expected = torch.from_numpy(Rotation.from_matrix(matrices.numpy()).as_quat(scalar_first=True))
    found = matrices_to_quats(matrices)
    np.testing.assert_allclose((found * expected).sum(-1).abs(), 1, atol=1e-14)


def test_the_identity_is_one_and_three_zeros():
    expected = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert torch.equal(matrices_to_quats(torch.eye(3)), expected)
    assert torch.equal(quats_to_matrices(expected), torch.eye(3))


def test_a_product_is_the_product_of_the_matrices():
    left, right = random_quats(seed=1), random_quats(seed=2)
    torch.testing.assert_close(
        quats_to_matrices(multiply_quats(left, right)),
        quats_to_matrices(left) @ quats_to_matrices(right),
    )


def test_the_product_is_associative():
    a, b, c = (random_quats(seed=seed) for seed in (1, 2, 3))
    torch.testing.assert_close(
        multiply_quats(multiply_quats(a, b), c), multiply_quats(a, multiply_quats(b, c))
    )


def test_a_quaternion_times_its_inverse_is_the_identity():
    quats = random_quats()
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64).expand_as(quats)
    torch.testing.assert_close(multiply_quats(quats, invert_quats(quats)), identity)
    torch.testing.assert_close(multiply_quats(invert_quats(quats), quats), identity)


def test_any_batch_shape_is_kept():
    quats = random_quats(24).reshape(2, 3, 4, 4)
    assert quats_to_matrices(quats).shape == (2, 3, 4, 3, 3)
    assert matrices_to_quats(quats_to_matrices(quats)).shape == quats.shape
    assert multiply_quats(quats, quats[0, 0, 0]).shape == quats.shape
    assert matrices_to_quats(torch.empty(0, 3, 3)).shape == (0, 4)


def test_gradients_agree_with_finite_differences_and_are_finite_at_half_turns():
    quats = random_quats(5).requires_grad_()
    assert torch.autograd.gradcheck(quats_to_matrices, (quats,))
    matrices = quats_to_matrices(half_turns()).requires_grad_()
    matrices_to_quats(matrices).sum().backward()
    assert matrices.grad is not None
    assert matrices.grad.isfinite().all()


def test_a_rigid_motion_of_points_is_found():
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rotation = quats_to_matrices(random_quats(1)[0].double())
    offset = torch.tensor([0.3, -2.0, 1.0], dtype=torch.float64)
    weights = torch.ones(20, dtype=torch.float64)
    weights[5] = 0
    target = points @ rotation.T + offset
    target[5] += 9.0  # without weight
    found, moved = rigid_motion(points, target, weights)
    torch.testing.assert_close(found, rotation)
    torch.testing.assert_close(moved, offset)


@pytest.mark.parametrize("flat", [False, True])
def test_the_rigid_motion_of_mirrored_or_flat_points_is_a_rotation(flat: bool):
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if flat:
        points[:, 2] = 0
    found, _ = rigid_motion(points, points * torch.tensor([-1.0, 1, 1], dtype=torch.float64))
    assert float(torch.linalg.det(found)) == pytest.approx(1.0)


def test_one_point_is_moved_without_a_reflection():
    found, offset = rigid_motion(torch.zeros(1, 3), torch.ones(1, 3))
    assert float(torch.linalg.det(found)) == pytest.approx(1.0)
    torch.testing.assert_close(offset, torch.ones(3))
