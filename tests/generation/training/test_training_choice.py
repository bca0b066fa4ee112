"""What a training step sees of a grid: as many views and frames as asked, and only sound ones."""

import numpy as np
import pytest

from generation.anchors import anchored_passes
from generation.training.training_choice import COARSE, FINE, Choice, Selection, Spacing, choose
from recon.errors import InputError


def draws(selection: Selection, V: int = 16, T: int = 21, count: int = 200) -> list[Choice]:
    return [choose(selection, V, T, np.random.default_rng(seed)) for seed in range(count)]


def test_the_coarse_stage_sees_all_views_in_order_and_five_frames_on_end():
    for choice in draws(COARSE):
        assert choice.views == tuple(range(16))
        assert choice.reference_view == 0
        assert np.diff(choice.frames).tolist() == [1, 1, 1, 1]
        assert choice.reference_frame == choice.frames[0]
    assert {choice.frames[0] for choice in draws(COARSE)} == set(range(17))


def test_the_fine_stage_sees_four_views_each_as_often_as_any_other():
    choices = draws(FINE, count=800)
    assert all(len(set(choice.views)) == 4 for choice in choices)
    seen = np.bincount([view for choice in choices for view in choice.views], minlength=16)
    assert np.abs(seen - 200).max() < 60  # five standard deviations


@pytest.mark.parametrize("T", [6, 21, 42])
def test_anchors_are_those_of_sampling(T):
    (choice,) = draws(Selection(spacing=Spacing.ANCHORS), T=T, count=1)
    first = anchored_passes(T, 5)[0]
    assert choice.frames == first.frames
    assert choice.reference_frame == first.reference


def test_strides_reach_as_far_as_the_clip():
    choices = draws(Selection(max_stride=9))
    assert {choice.frames[1] - choice.frames[0] for choice in choices} == {1, 2, 3, 4, 5}
    assert all(max(choice.frames) <= 20 for choice in choices)
    assert {max(choice.frames) for choice in choices} >= {4, 20}
    assert draws(Selection(max_stride=9), T=5, count=1)[0].frames == (0, 1, 2, 3, 4)


def test_views_go_around_from_a_random_reference():
    choices = draws(Selection(random_reference=True))
    assert {choice.reference_view for choice in choices} == set(range(16))
    for choice in choices:
        assert choice.views == tuple((choice.reference_view + k) % 16 for k in range(16))


def test_a_single_frame_may_be_any():
    assert {choice.frames for choice in draws(Selection(frames=1), T=3)} == {(0,), (1,), (2,)}


@pytest.mark.parametrize("changes", [{"views": 0}, {"frames": 0}, {"max_stride": 0}, {"sizes": ()}])
def test_nothing_to_choose_is_refused(changes):
    with pytest.raises(InputError):
        Selection(**changes)
