import numpy as np
import torch
from scipy.spatial.transform import Rotation

from recon.gaussians import Gaussians, gaussians_from_points
from recon.mesh.skinning import INFLUENCES, bind_points, fit_weights, move_points
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


def motions_of_bones(count: int) -> np.ndarray:
    random = np.random.default_rng(1)
    motions = np.tile(np.eye(4), (6, count, 1, 1))
    motions[..., :3, :3] = Rotation.random(6 * count, random).as_matrix().reshape(6, count, 3, 3)
    motions[..., :3, 3] = random.random((6, count, 3))
    return motions


def test_weights_are_fitted_to_the_motion():
    random = np.random.default_rng(0)
    motions, rest = motions_of_bones(5), random.random((30, 3))
    true = random.dirichlet(np.ones(5), 30)
    positions = np.einsum("pk,tkab,pb->tpa", true, motions[..., :3, :], np.c_[rest, np.ones(30)])
    found = fit_weights(np.full((30, 5), 0.2), rest, positions, motions)
    np.testing.assert_allclose(found, true, atol=0.02)


def test_the_prior_decides_between_bones_that_move_alike():
    motions = np.tile(np.eye(4), (4, 3, 1, 1))
    rest, prior = np.random.default_rng(0).random((10, 3)), np.tile([0.5, 0.3, 0.2], (10, 1))
    found = fit_weights(prior, rest, np.tile(rest, (4, 1, 1)), motions)
    np.testing.assert_allclose(found, prior, atol=1e-6)


def test_a_vertex_follows_at_most_eight_bones():
    motions, rest = motions_of_bones(20), np.random.default_rng(0).random((10, 3))
    weights = np.random.default_rng(2).dirichlet(np.ones(20), 10)
    found = fit_weights(weights, rest, np.tile(rest, (6, 1, 1)), motions)
    assert ((found > 0).sum(axis=1) <= INFLUENCES).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
