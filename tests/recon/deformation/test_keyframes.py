import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation, Slerp

from recon.deformation import load_deformation
from recon.deformation.keyframes import KeyframeDeformation
from recon.errors import SceneError
from recon.gaussians import Gaussians, gaussians_from_points
from recon.rotations import quats_to_matrices

TIMES = (0.0, 0.25, 0.5, 1.0)


def cloud(count: int = 20, seed: int = 0) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 3, generator=generator) - 0.5
    return gaussians_from_points(points, points.abs(), 0.05)


def random_motion(gaussians: Gaussians, seed: int = 1) -> KeyframeDeformation:
    generator = torch.Generator().manual_seed(seed)
    module = KeyframeDeformation.for_fit(gaussians, TIMES)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return module


def rigid_motion(gaussians: Gaussians) -> KeyframeDeformation:
    """The whole cloud turns about the z axis by 30 degrees a frame and is shifted."""
    module = KeyframeDeformation.for_fit(gaussians, TIMES)
    with torch.no_grad():
        for frame in range(len(TIMES)):
            half = math.radians(15 * frame)
            quat = torch.tensor([math.cos(half), 0.0, 0.0, math.sin(half)])
            turned = gaussians.means @ quats_to_matrices(quat).T
            module.translations[frame].copy_(turned - gaussians.means + 0.1 * frame)
            module.rotations[frame].copy_(quat)
    return module


def test_keyframes_are_the_identity_at_initialization():
    gaussians = cloud()
    moved = KeyframeDeformation.for_fit(gaussians, TIMES)(gaussians, 0.3)
    assert all(torch.equal(a, b) for a, b in zip(moved, gaussians, strict=True))


def test_a_fitted_time_has_its_own_pose():
    gaussians = cloud()
    module = random_motion(gaussians)
    for frame, time in enumerate(TIMES):
        moved = module(gaussians, time)
        torch.testing.assert_close(moved.means, gaussians.means + module.translations[frame])
        expected = Rotation.from_quat(module.rotations[frame].detach().numpy(), scalar_first=True)
        torch.testing.assert_close(
            quats_to_matrices(moved.quats), torch.tensor(expected.as_matrix(), dtype=torch.float32)
        )


def test_between_times_translations_are_linear_and_rotations_near_to_slerp():
    gaussians = cloud()
    module = rigid_motion(gaussians)
    pose = module.pose(0.75)
    expected = (module.translations[2] + module.translations[3]) / 2
    torch.testing.assert_close(pose.translations, expected)
    keys = Rotation.from_euler("z", [[60], [90]], degrees=True)
    slerp = Slerp([0.5, 1.0], keys)(0.75).as_quat(scalar_first=True)
    np.testing.assert_allclose(pose.quats.detach(), np.tile(slerp, (20, 1)), atol=1e-6)


def test_the_sign_of_a_quaternion_does_not_matter():
    gaussians = cloud()
    module = random_motion(gaussians)
    before = module(gaussians, 0.4)
    with torch.no_grad():
        module.rotations[1].neg_()
    after = module(gaussians, 0.4)
    torch.testing.assert_close(quats_to_matrices(before.quats), quats_to_matrices(after.quats))


def test_outside_of_the_fitted_times_the_gaussians_rest():
    gaussians = cloud()
    module = KeyframeDeformation((0.2, 0.8), len(gaussians.means))
    torch.nn.init.ones_(module.translations[1])
    assert torch.equal(module(gaussians, 0.0).means, gaussians.means)
    assert torch.equal(module(gaussians, 1.0).means, gaussians.means + 1)


def test_at_a_fitted_time_no_other_time_gets_a_gradient():
    gaussians = cloud()
    module = KeyframeDeformation.for_fit(gaussians, TIMES)
    module(gaussians, 0.25).means.sum().backward()
    assert [p.grad is not None for p in module.translations] == [False, True, False, False]


def test_regularization_is_zero_for_a_rigid_and_even_motion():
    gaussians = cloud()
    module = rigid_motion(gaussians)
    module.smoothness = 0.0
    assert module.regularization(gaussians, 0.5).item() == pytest.approx(0, abs=1e-6)
    still = KeyframeDeformation.for_fit(gaussians, TIMES)
    with torch.no_grad():
        for time, translation in zip(TIMES, still.translations, strict=True):
            translation.fill_(1 + time)
    for time in TIMES:
        assert still.regularization(gaussians, time).item() == pytest.approx(0, abs=1e-6)


def test_regularization_grows_with_a_shear_and_with_a_jerk():
    gaussians = cloud()
    sheared, jerked = (KeyframeDeformation.for_fit(gaussians, TIMES) for _ in range(2))
    with torch.no_grad():
        sheared.translations[1][:, 0] = gaussians.means[:, 1]
        for translation, place in zip(jerked.translations, (0.1, 1.0, 0.1, 0.1), strict=True):
            translation.fill_(place)
    sheared.smoothness = 0.0
    assert sheared.regularization(gaussians, 0.25) > 0.1 * sheared.rigidity
    assert jerked.regularization(gaussians, 0.25) > 0.1 * jerked.smoothness


def test_times_that_were_never_fitted_do_not_affect_others():
    gaussians = cloud()
    module = KeyframeDeformation.for_fit(gaussians, TIMES)
    with torch.no_grad():
        module.translations[1].fill_(1.0)
    assert module.regularization(gaussians, 0.25).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("frame", range(len(TIMES)))
def test_regularization_at_a_time_has_no_gradient_for_other_times(frame: int):
    gaussians = cloud()
    module = random_motion(gaussians)
    module.regularization(gaussians, TIMES[frame]).backward()
    touched = [p.grad is not None for p in module.translations]
    assert touched == [i == frame for i in range(len(TIMES))]


def test_regularization_does_not_depend_on_the_unit_of_length():
    gaussians = cloud()
    module = random_motion(gaussians)
    large = gaussians._replace(means=100 * gaussians.means)
    largely = random_motion(large)
    with torch.no_grad():
        for translation in largely.translations:
            translation.mul_(100)
    torch.testing.assert_close(
        module.regularization(gaussians, 0.5), largely.regularization(large, 0.5)
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_few_gaussians_are_enough(count: int):
    gaussians = cloud(count)
    module = KeyframeDeformation.for_fit(gaussians, TIMES)
    assert module(gaussians, 0.6).means.shape == (count, 3)
    assert module.regularization(gaussians, 0.6).item() == 0


def test_the_neighbors_are_the_nearest():
    gaussians = cloud()
    module = KeyframeDeformation.for_fit(gaussians, TIMES)
    distances = torch.cdist(gaussians.means, gaussians.means).fill_diagonal_(math.inf)
    expected = distances.topk(8, largest=False).indices
    assert torch.equal(module.neighbors.sort().values, expected.sort().values)


def test_all_parameters_have_one_row_per_gaussian():
    gaussians = cloud()
    module = random_motion(gaussians)
    rows = torch.tensor([3, 0, 3, 19])
    expected = module(gaussians, 0.4).map(lambda tensor: tensor[rows].detach())
    chosen = gaussians.map(lambda tensor: tensor[rows])
    for parameter in module.gaussian_parameters():
        parameter.data = parameter.data[rows]
    module.refresh(chosen)
    for found, wanted in zip(module(chosen, 0.4), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    module.regularization(chosen, 0.4).backward()
    assert module.neighbors.shape == (4, 3)


def test_a_new_time_continues_the_motion_damped():
    gaussians = cloud()
    module = rigid_motion(gaussians)
    with torch.no_grad():
        module.translations[1].fill_(0.1)
        module.translations[2].fill_(0.2)
    module.begin_time(3, 2, 1)
    torch.testing.assert_close(module.translations[3], torch.full((20, 3), 0.28))
    angle = Rotation.from_quat(module.rotations[3].detach().numpy(), scalar_first=True).magnitude()
    np.testing.assert_allclose(np.degrees(angle), 60 + 0.8 * 30, atol=0.3)


def test_a_new_time_beside_a_single_fitted_one_copies_its_pose():
    module = random_motion(cloud())
    module.begin_time(0, 1, None)
    assert torch.equal(module.translations[0], module.translations[1])
    pose, neighbor = module.pose(TIMES[0]), module.pose(TIMES[1])
    torch.testing.assert_close(pose.quats, neighbor.quats)


def test_the_parameter_groups_hold_every_parameter_once():
    module = KeyframeDeformation(TIMES, 4)
    grouped = [id(p) for group in module.parameter_groups() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in module.parameters())


def test_what_was_saved_is_loaded_bit_by_bit():
    gaussians = cloud()
    module = random_motion(gaussians)
    loaded = load_deformation("keyframes", module.configuration(), module.state_dict())
    for time in (0.0, 0.1, 0.77):
        pairs = zip(module(gaussians, time), loaded(gaussians, time), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert loaded.configuration() == module.configuration()


def test_tensors_of_the_wrong_shape_or_name_are_refused():
    module = KeyframeDeformation(TIMES, 4)
    configuration, tensors = module.configuration(), module.state_dict()
    with pytest.raises(SceneError, match=r"translations\.0.* missing"):
        load_deformation("keyframes", configuration, {})
    with pytest.raises(SceneError, match=r"missing \['rotations\.2'\]"):
        partial = {name: value for name, value in tensors.items() if name != "rotations.2"}
        load_deformation("keyframes", configuration, partial)
    with pytest.raises(SceneError, match=r"has shape \(3, 4\), expected \(4, 4\)"):
        load_deformation("keyframes", configuration, {**tensors, "rotations.1": torch.zeros(3, 4)})
    with pytest.raises(SceneError, match="NaN"):
        poisoned = torch.full((4, 3), math.nan)
        load_deformation("keyframes", configuration, {**tensors, "translations.1": poisoned})
