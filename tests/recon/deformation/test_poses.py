import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from recon.deformation.poses import Pose, align_quats, ascending, bracket, continued

TIMES = (0.0, 0.25, 0.5, 1.0)


def test_the_bracket_of_a_time_reproduces_the_time():
    for time in np.linspace(0, 1, 37):
        left, weight = bracket(TIMES, time)
        assert 0 <= weight < 1
        right = min(left + 1, len(TIMES) - 1)
        assert (1 - weight) * TIMES[left] + weight * TIMES[right] == pytest.approx(time)


def test_times_outside_the_range_are_clamped():
    assert bracket(TIMES, -1) == (0, 0.0)
    assert bracket(TIMES, 2) == (3, 0.0)
    assert bracket((0.4,), 0.7) == (0, 0.0)


@pytest.mark.parametrize("times", [(), (0.0, 0.0), (1.0, 0.0), (0.0, math.nan)])
def test_times_must_ascend(times: tuple[float, ...]):
    with pytest.raises(ValueError, match="ascending"):
        ascending(times)


def test_aligned_quaternions_are_the_same_rotations_on_the_same_side():
    quats = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    towards = torch.tensor([0.5, -0.5, 0.5, 0.5])
    aligned = align_quats(quats, towards)
    assert (aligned @ towards >= 0).all()
    assert torch.equal(aligned.abs(), quats.abs())


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_extrapolation_continues_a_motion_about_the_same_axis_damped(sign: float):
    start = Rotation.from_rotvec([0.3, -0.2, 0.9])
    step = Rotation.from_rotvec([0.0, 0.1, -0.05])
    before, last = (
        Pose(
            torch.full((1, 3), x),
            torch.tensor(rotation.as_quat(scalar_first=True)[None], dtype=torch.float32),
        )
        for x, rotation in ((1.0, start), (1.5, step * start))
    )
    guess = continued(before._replace(quats=sign * before.quats), last)
    found = Rotation.from_quat(guess.quats.numpy()[0], scalar_first=True)
    turn = (found * (step * start).inv()).as_rotvec()
    np.testing.assert_allclose(turn, 0.8 * step.as_rotvec(), atol=1e-4)
    torch.testing.assert_close(guess.translations, torch.full((1, 3), 1.9))
