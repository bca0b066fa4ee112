import numpy as np
import torch

from recon.gaussians import Gaussians, gaussians_from_points
from recon.mesh.skinning import bind_points, move_points
from recon.rotations import multiply_quats, quats_to_matrices

GENERATOR = torch.Generator().manual_seed(0)


def cloud(count: int = 60) -> Gaussians:
    points = torch.rand(count, 3, generator=GENERATOR)
    gaussians = gaussians_from_points(points, points, 0.05, 0.8)
    return gaussians._replace(quats=torch.randn(count, 4, generator=GENERATOR))


def test_bound_points_stay_in_place_without_motion():
    gaussians, points = cloud(), np.random.default_rng(0).random((20, 3))
    binding = bind_points(points, gaussians)
    np.testing.assert_allclose(move_points(binding, gaussians, gaussians), points, atol=1e-6)


def test_a_rigid_motion_carries_points_rigidly():
    gaussians, points = cloud(), np.random.default_rng(0).random((20, 3))
    quat = torch.tensor([0.5, -0.1, 0.7, 0.3])
    turn, step = quats_to_matrices(quat), torch.tensor([0.2, -1.0, 3.0])
    moved = gaussians._replace(
        means=gaussians.means @ turn.T + step, quats=3 * multiply_quats(quat, gaussians.quats)
    )
    found = move_points(bind_points(points, gaussians), gaussians, moved)
    expected = points @ turn.numpy().T + step.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_weights_are_a_partition_of_unity():
    binding = bind_points(np.random.default_rng(0).random((20, 3)), cloud())
    assert (binding.weights >= 0).all()
    torch.testing.assert_close(binding.weights.sum(dim=1), torch.ones(20))


def test_no_points_are_bound_to_nearly_transparent_gaussians():
    gaussians = cloud()
    faint = torch.arange(60) < 30
    gaussians = gaussians._replace(opacities=torch.where(faint, -9.0, gaussians.opacities))
    binding = bind_points(gaussians.means[:30].numpy(), gaussians)
    assert (binding.indices >= 30).all()


def test_all_points_can_be_bound_to_a_single_gaussian():
    gaussians = cloud(1)
    binding = bind_points(np.random.default_rng(0).random((5, 3)), gaussians)
    assert binding.weights.shape == (5, 1)
