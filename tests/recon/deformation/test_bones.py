import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from recon.deformation import load_deformation
from recon.deformation.bones import BoneDeformation, cluster_centers
from recon.errors import SceneError
from recon.fitting.densification import reindex
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid.cameras import orbit_camera
from recon.rotations import multiply_quats, quats_to_matrices
from recon.scene import Scene, load_scene, write_scene

TIMES = (0.0, 0.25, 0.5, 1.0)
BONES = 6


def cloud(count: int = 40, seed: int = 0) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    points = uniform(count, 3) - 0.5
    round_ones = gaussians_from_points(points, points.abs(), 0.05)
    return round_ones._replace(quats=uniform(count, 4) - 0.5, scales=uniform(count, 3) - 4)


def random_motion(gaussians: Gaussians, size: float = 0.3, seed: int = 1) -> BoneDeformation:
    generator = torch.Generator().manual_seed(seed)
    module = BoneDeformation.for_fit(gaussians, TIMES, BONES)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return module


def common_motion(gaussians: Gaussians) -> tuple[BoneDeformation, Tensor, Tensor, Tensor]:
    """All bones make one rigid motion at time 0.5; also its matrix, quaternion and translation."""
    module = random_motion(gaussians)
    turn = Rotation.from_rotvec([0.4, -0.9, 0.3])
    matrix = torch.tensor(turn.as_matrix(), dtype=torch.float32)
    quat = torch.tensor(turn.as_quat(scalar_first=True), dtype=torch.float32)
    translation = torch.tensor([0.1, -0.2, 0.3])
    with torch.no_grad():
        module.rotations[2].copy_(quat.expand(BONES, 4))
        module.translations[2].copy_(
            module.centres @ matrix.T + translation - module.centres  # about each bone's center
        )
    return module, matrix, quat, translation


def distances(gaussians: Gaussians) -> Tensor:
    return (gaussians.means[:, None] - gaussians.means).norm(dim=-1)


def covariances(gaussians: Gaussians) -> Tensor:
    axes = quats_to_matrices(gaussians.quats) * gaussians.scales.exp()[:, None]
    return axes @ axes.transpose(1, 2)


def test_bones_at_rest_are_the_identity_at_every_time():
    gaussians = cloud()
    module = BoneDeformation.for_fit(gaussians, TIMES, BONES)
    for time in (0.0, 0.1, 0.5, 0.77, 1.0):
        moved = module(gaussians, time)
        torch.testing.assert_close(moved.means, gaussians.means, atol=1e-6, rtol=0)
        torch.testing.assert_close(moved.quats, gaussians.quats, atol=1e-6, rtol=0)
        assert all(
            torch.equal(getattr(moved, name), getattr(gaussians, name))
            for name in ("scales", "opacities", "sh0", "shN")
        )


def test_a_motion_that_all_bones_share_moves_everything_rigidly():
    gaussians = cloud()
    module, matrix, quat, translation = common_motion(gaussians)
    moved = module(gaussians, 0.5)
    torch.testing.assert_close(
        moved.means, gaussians.means @ matrix.T + translation, atol=1e-5, rtol=0
    )
    before, after = distances(gaussians), distances(moved)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        quats_to_matrices(moved.quats), quats_to_matrices(multiply_quats(quat, gaussians.quats))
    )
    torch.testing.assert_close(covariances(moved), matrix @ covariances(gaussians) @ matrix.T)


def test_bones_agree_with_a_loop_of_linear_blend_skinning():
    gaussians = cloud(8)
    module = random_motion(gaussians)
    moved = module(gaussians, 0.25)
    weights = np.exp(module.logits.detach().numpy().astype(np.float64))
    weights /= weights.sum(1, keepdims=True)
    centres, t = module.centres.numpy(), module.translations[1].detach().numpy()
    turns = Rotation.from_quat(module.rotations[1].detach().numpy(), scalar_first=True)
    for n, mean in enumerate(gaussians.means.numpy()):
        expected = sum(
            weights[n, k] * (turns[k].apply(mean - centres[k]) + centres[k] + t[k])
            for k in range(BONES)
        )
        np.testing.assert_allclose(moved.means[n].detach(), expected, atol=1e-5)


def test_gaussians_that_follow_one_bone_keep_their_distances():
    gaussians = cloud()
    module = random_motion(gaussians)
    with torch.no_grad():
        module.logits.fill_(-50.0)
        module.logits[:, 2] = 50.0
    moved = module(gaussians, 0.4)
    before, after = distances(gaussians), distances(moved)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)


def test_adding_a_number_to_all_logits_of_a_gaussian_changes_nothing():
    """The weights sum to one, whatever the logits are."""
    gaussians = cloud()
    module = random_motion(gaussians)
    expected = module(gaussians, 0.6)
    with torch.no_grad():
        module.logits.add_(torch.linspace(-30, 30, len(gaussians.means))[:, None])
    moved = module(gaussians, 0.6)
    torch.testing.assert_close(moved.means, expected.means, atol=1e-5, rtol=1e-5)


def test_the_sign_and_length_of_a_quaternion_do_not_matter():
    gaussians = cloud()
    module = random_motion(gaussians)
    expected = module(gaussians, 0.4)
    with torch.no_grad():
        module.rotations[1].mul_(-3.0)
        module.rotations[2][::2].mul_(-0.5)
    moved = module(gaussians, 0.4)
    torch.testing.assert_close(moved.means, expected.means, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        quats_to_matrices(moved.quats), quats_to_matrices(expected.quats), atol=1e-5, rtol=0
    )


def test_the_motion_is_continuous_in_time():
    gaussians = cloud()
    module = random_motion(gaussians)
    times = np.sort(np.concatenate([np.linspace(0, 1, 200), TIMES, np.array(TIMES[1:]) - 1e-6]))
    means = torch.stack([module(gaussians, float(time)).means for time in times])
    steps = (means[1:] - means[:-1]).norm(dim=-1).amax(1)
    speeds = steps / torch.from_numpy(np.diff(times) + 1e-6)
    assert steps.max() < 0.1
    assert speeds.max() < 20


def test_outside_of_the_fitted_times_the_gaussians_rest():
    gaussians = cloud()
    module = random_motion(gaussians)
    module.times = (0.2, 0.4, 0.6, 0.8)
    for outside, end in ((0.0, 0.2), (0.1, 0.2), (0.9, 0.8), (1.0, 0.8)):
        moved, expected = module(gaussians, outside), module(gaussians, end)
        assert torch.equal(moved.means, expected.means)


@pytest.mark.parametrize("direction", [1, -1])
def test_a_new_time_continues_with_the_previous_velocity(direction: int):
    gaussians = cloud()
    order = [0, 1, 2] if direction > 0 else [3, 2, 1]
    module = BoneDeformation.for_fit(gaussians, TIMES, BONES)
    velocity = torch.tensor([0.1, 0.0, -0.05])
    with torch.no_grad():
        module.translations[order[1]].copy_(velocity.expand(BONES, 3))
    module.begin_time(order[2], order[1], order[0])
    step = module.translations[order[2]] - module.translations[order[1]]
    torch.testing.assert_close(step / velocity.norm(), (step[:1] / velocity.norm()).expand_as(step))
    cosine = torch.nn.functional.cosine_similarity(step[0], velocity, dim=0)
    assert cosine > 0.999
    assert 0.5 * velocity.norm() < step[0].norm() <= velocity.norm() * (1 + 1e-5)


def test_a_new_time_continues_to_rotate():
    module = BoneDeformation.for_fit(cloud(), TIMES, BONES)
    turn = Rotation.from_euler("z", 20, degrees=True)
    with torch.no_grad():
        quat = torch.tensor(turn.as_quat(scalar_first=True), dtype=torch.float32)
        module.rotations[1].copy_(quat.expand(BONES, 4))
    module.begin_time(2, 1, 0)
    found = Rotation.from_quat(module.rotations[2].detach().numpy(), scalar_first=True)
    further = (found * turn.inv()).as_rotvec(degrees=True)
    np.testing.assert_allclose(further[:, :2], 0, atol=1e-3)
    assert further[:, 2].min() > 10
    assert further[:, 2].max() < 20.01


def test_a_new_time_without_a_velocity_copies_the_pose_of_its_neighbor():
    gaussians = cloud()
    module = random_motion(gaussians)
    module.begin_time(3, 2, None)
    a, b = module(gaussians, TIMES[2]), module(gaussians, TIMES[3])
    torch.testing.assert_close(a.means, b.means, atol=1e-6, rtol=0)


def test_a_reindexed_gaussian_follows_the_bones_that_it_followed():
    gaussians = cloud()
    module = random_motion(gaussians)
    rows = torch.tensor([5, 5, 0, 39, 17])
    optimizer = torch.optim.Adam(module.parameters())
    expected = module(gaussians, 0.7).means[rows]
    reindex(module.gaussian_parameters(), optimizer.state, rows, torch.zeros(5, dtype=torch.bool))
    moved = module(gaussians.map(lambda tensor: tensor[rows]), 0.7)
    torch.testing.assert_close(moved.means, expected)


def test_every_parameter_is_in_one_group_and_groups_of_a_time_have_its_index():
    module = random_motion(cloud())
    groups = module.parameter_groups()
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in module.parameters())
    for group in groups:
        if "time" in group:
            own = {id(module.translations[group["time"]]), id(module.rotations[group["time"]])}
            assert {id(parameter) for parameter in group["params"]} == own


def test_a_step_at_one_fitted_time_has_no_gradient_for_the_others():
    gaussians = cloud()
    module = random_motion(gaussians)
    module(gaussians, TIMES[1]).means.square().sum().backward()
    assert module.translations[1].grad is not None
    assert all(module.translations[i].grad is None for i in (0, 2, 3))


def test_regularization_is_nearly_zero_for_a_rigid_motion_and_grows_with_gaps():
    gaussians = cloud()
    rigid = common_motion(gaussians)[0].regularization(gaussians, 0.5)
    torn = random_motion(gaussians).regularization(gaussians, 0.5)
    assert 0 <= rigid < 1e-3
    assert torn > 10 * rigid


@pytest.mark.parametrize("count", [1, 2, 5])
def test_fewer_gaussians_than_bones_are_enough(count: int):
    gaussians = cloud(count)
    module = BoneDeformation.for_fit(gaussians, (0.0,))
    assert torch.isfinite(module(gaussians, 0.0).means).all()
    assert torch.isfinite(module.regularization(gaussians, 0.0))


def test_coinciding_gaussians_are_supported():
    gaussians = cloud()._replace(means=torch.zeros(40, 3))
    module = BoneDeformation.for_fit(gaussians, TIMES)
    assert torch.isfinite(module(gaussians, 0.3).means).all()


def test_each_gaussian_first_follows_the_nearest_bone_most():
    gaussians = cloud(200)
    module = BoneDeformation.for_fit(gaussians, TIMES, BONES)
    nearest = torch.cdist(gaussians.means, module.centres).argmin(1)
    assert torch.equal(module.logits.argmax(1), nearest)


def test_cluster_centers_find_separated_clusters():
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    points = truth.repeat_interleave(50, 0) + 0.05 * torch.randn(200, 3, generator=generator)
    centres = cluster_centers(points, 4)
    distance = torch.cdist(truth, centres)
    assert distance.amin(1).max() < 0.03
    assert sorted(distance.argmin(1).tolist()) == [0, 1, 2, 3]
    assert torch.equal(centres, cluster_centers(points, 4))


def test_values_agree_with_double_precision_and_gradients_with_finite_differences():
    gaussians = cloud(4).map(Tensor.double)
    module = random_motion(cloud(4)).double()
    single = random_motion(cloud(4))
    for time in (0.25, 0.6):
        pair = zip(single(cloud(4), time)[:2], module(gaussians, time)[:2], strict=True)
        for a, b in pair:
            torch.testing.assert_close(a.double(), b, atol=1e-5, rtol=1e-5)
    assert torch.autograd.gradcheck(
        lambda means, *_: module(gaussians._replace(means=means), 0.6)[:2],
        (gaussians.means.requires_grad_(), *module.parameters()),
    )


def test_single_precision_gradients_agree_with_double():
    loss_weights = torch.linspace(-1, 1, 40)[:, None]
    results = []
    for dtype in (torch.float32, torch.float64):
        gaussians = cloud().map(lambda tensor, dtype=dtype: tensor.to(dtype).requires_grad_())
        module = random_motion(cloud()).to(dtype)
        moved = module(gaussians, 0.6)
        loss = (moved.means * loss_weights).sum() + (moved.quats.square() * loss_weights).sum()
        leaves = [gaussians.means, gaussians.quats, *module.parameters()]
        results.append(torch.autograd.grad(loss, leaves, materialize_grads=True))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a.double(), b, atol=2e-5, rtol=2e-4)


def test_what_was_saved_is_loaded_bit_by_bit(tmp_path: Path):
    gaussians = cloud()
    module = random_motion(gaussians).requires_grad_(False)
    cameras = (orbit_camera(0, 0, 3, 30, 8, 8),)
    write_scene(Scene(gaussians, module, np.array(TIMES), cameras), tmp_path)
    loaded = load_scene(tmp_path)
    assert loaded.deformation.name == "bones"
    assert loaded.deformation.configuration() == module.configuration()
    for time in (0.0, 0.1, 0.5, 0.77):
        pairs = zip(loaded.at(time), module(gaussians, time), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "change",
    [
        {"logits": None},
        {"centres": None},
        {"logits": torch.zeros(40)},
        {"centres": torch.zeros(BONES + 1, 3)},
        {"rotations.0": torch.zeros(BONES, 3)},
        {"translations.1": torch.full((BONES, 3), math.nan)},
        {"more": torch.zeros(1)},
    ],
)
def test_tensors_of_the_wrong_shape_or_name_are_refused(change: dict):
    module = random_motion(cloud())
    tensors = {**module.state_dict(), **change}
    tensors = {name: value for name, value in tensors.items() if value is not None}
    with pytest.raises(SceneError, match=r"tensor|expected 'centres'"):
        load_deformation("bones", module.configuration(), tensors)
