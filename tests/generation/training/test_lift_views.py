"""The solids between layers, seen from elsewhere: areas, overlaps and gradients of known shapes."""

import math

import pytest
import torch

from generation.lift.lifting import DISTANCE, FOV_DEG
from generation.lift.network import YAW_BINS, LiftPrediction
from generation.training.clip_sampling import SampleRng
from generation.training.lift_loss import LiftTarget
from generation.training.lift_views import random_cameras, view_errors

SIZE = 64
FOCAL = SIZE / 2 / math.tan(math.radians(FOV_DEG) / 2)
FRONT_COLOR, BACK_COLOR = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)
SIDE = torch.tensor([[math.pi / 2, 0.0]])


def ball(radius: float, center: float = 0.0) -> LiftTarget:
    """Return the layers of a ball on the optical axis."""
    line = (torch.arange(SIZE) + 0.5 - SIZE / 2) / FOCAL
    y, x = torch.meshgrid(line, line, indexing="ij")
    # A point at depth d is d (x, y, 1).
    a, b, c = 1 + x**2 + y**2, DISTANCE + center, (DISTANCE + center) ** 2 - radius**2
    root = b * b - a * c
    mask = root > 0
    half = root.clamp_min(0).sqrt()
    near, far = (b - half) / a - DISTANCE, (b + half) / a - DISTANCE
    middle = (near + far) / 2
    return slabs(mask, (near, middle, middle, far))


def slabs(mask, depths, gap=False) -> LiftTarget:
    """Return layers at given depths."""
    depth = torch.stack([torch.as_tensor(d).expand(SIZE, SIZE) * mask for d in depths])[None]
    color = torch.tensor([BACK_COLOR, FRONT_COLOR, BACK_COLOR]).view(1, 3, 3, 1, 1)
    color = color.expand(1, 3, 3, SIZE, SIZE)
    is_gap = (mask & torch.tensor(gap))[None]
    return LiftTarget(depth.float(), is_gap, color, mask[None], torch.zeros(1))


def square(half: float = 0.4) -> torch.Tensor:
    """Return a mask of about ± half world units."""
    place = ((torch.arange(SIZE) + 0.5 - SIZE / 2) / FOCAL * DISTANCE).abs() < half
    return place[:, None] & place[None]


def predicted(target: LiftTarget, depth=None, gap=None) -> LiftPrediction:
    logit = torch.where(target.gap, 20.0, -20.0) if gap is None else gap
    depth = target.depth if depth is None else depth
    return LiftPrediction(depth, logit, target.color, torch.zeros(1, YAW_BINS))


def errors(prediction, target, cameras=SIDE):
    front = torch.tensor(FRONT_COLOR).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE)
    found = view_errors(prediction, target, front, torch.zeros(1), cameras)
    return found["silhouette"], found["appearance"]


@pytest.mark.parametrize("azimuth", [0.3, 1.6, 3.1, -2.0])
def test_the_truth_has_no_error(azimuth):
    target = ball(0.5)
    found = errors(predicted(target), target, torch.tensor([[azimuth, 0.2]]))
    assert [float(each) for each in found] == pytest.approx([0, 0], abs=1e-6)


def test_the_overlap_of_two_balls_is_that_of_two_discs():
    small, large = ball(0.4), ball(0.5)
    both = large._replace(mask=small.mask)  # the same rays
    silhouette, _ = errors(predicted(small), both)
    # From the side a ball that lacks its rim is wide by its own radius along the ray.
    assert 0.15 < float(silhouette) < 0.40
    moved, _ = errors(predicted(ball(0.4)), ball(0.4, center=0.2)._replace(mask=small.mask))
    angle = math.acos(0.1 / 0.4)
    lens = 2 * 0.4**2 * angle - 0.2 * math.sqrt(0.4**2 - 0.1**2)
    union = 2 * math.pi * 0.4**2 - lens
    assert float(moved) == pytest.approx(1 - lens / union, abs=0.06)


def test_a_shift_in_depth_is_seen_from_the_side_but_hardly_from_the_front():
    target = slabs(square(), (-0.3, 0.0, 0.0, 0.3))
    moved = predicted(target, depth=target.depth + 0.3 * target.mask[:, None])
    from_side, _ = errors(moved, target)
    from_front, _ = errors(moved, target, torch.zeros(1, 2))
    assert float(from_side) == pytest.approx(0.66, abs=0.08)  # 1 − .3 / .9
    assert float(from_front) < 0.2


def test_what_is_too_thick_is_told_to_shrink():
    target = slabs(square(), (-0.2, 0.0, 0.0, 0.2))
    depth = torch.tensor([-0.4, 0.0, 0.0, 0.4]).view(1, 4, 1, 1).expand(1, 4, SIZE, SIZE)
    depth = (depth * target.mask[:, None]).requires_grad_()
    errors(predicted(target, depth=depth), target)[0].backward()
    assert depth.grad is not None
    total = depth.grad.sum((0, 2, 3))
    assert total[0] < 0 < total[3]  # of the descent: front back, back to the front


def test_a_gap_is_open_and_its_probability_learns():
    target = slabs(square(), (-0.5, -0.3, 0.3, 0.5), gap=True)
    gap = torch.zeros(1, SIZE, SIZE, requires_grad=True)
    silhouette, _ = errors(predicted(target, gap=gap), target)
    silhouette.backward()
    assert float(silhouette.detach()) > 0.1
    assert gap.grad is not None
    assert float(gap.grad.sum()) < 0
    open_, _ = errors(predicted(target), target)
    assert float(open_) < 1e-6


def test_each_side_has_its_color():
    """A swap of the colors of the back is seen from behind, not from the front."""
    target = slabs(square(), (-0.3, 0.0, 0.0, 0.3))
    painted = predicted(target)._replace(color=1 - target.color)
    behind = torch.tensor([[math.pi, 0.0]])
    assert float(errors(painted, target, behind)[1]) > 0.4
    assert float(errors(painted, target, torch.zeros(1, 2))[1]) < 0.1


def test_an_empty_sample_has_no_error():
    target = slabs(torch.zeros(SIZE, SIZE, dtype=torch.bool), (-0.3, 0.0, 0.0, 0.3))
    silhouette, appearance = errors(predicted(target), target)
    assert float(silhouette) == 1.0 or float(silhouette) == 0.0
    assert float(appearance) == 0.0


def test_cameras_are_within_their_range():
    found = random_cameras(SampleRng(0, 0, range(200)), (-10.0, 30.0))
    assert found.shape == (200, 2)
    elevation = found[:, 1].rad2deg()
    assert -10 <= float(elevation.min()) < 0 < 25 < float(elevation.max()) <= 30
    assert float(found[:, 0].min()) < 0.3 < 6 < float(found[:, 0].max())
