"""Sampled views and frames, and random numbers."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import torch

from generation.training import clip_sampling
from generation.training.clip_sampling import (
    COARSE,
    ClipSample,
    SampleRng,
    SamplingConfig,
    Spacing,
    sample_clip,
)
from generation.windows import anchor_and_fill_windows

VARIED = SamplingConfig(4, 3, max_stride=4, random_reference=True, augment=True)
SPACINGS = list(Spacing)


def clips(sampling: SamplingConfig, V: int = 16, T: int = 21, count: int = 200) -> list[ClipSample]:
    return [sample_clip(sampling, V, T, np.random.default_rng(seed)) for seed in range(count)]


def test_the_coarse_stage_sees_all_views_in_order_and_five_frames_on_end():
    for choice in clips(COARSE):
        assert choice.views == tuple(range(16))
        assert choice.reference_view == 0
        assert np.diff(choice.frames).tolist() == [1, 1, 1, 1]
        assert choice.reference_frame == choice.frames[0]
    assert {choice.frames[0] for choice in clips(COARSE)} == set(range(17))


def test_the_fine_stage_sees_four_views_each_as_often_as_any_other():
    choices = clips(SamplingConfig(views=4), count=800)
    assert all(len(set(choice.views)) == 4 for choice in choices)
    seen = np.bincount([view for choice in choices for view in choice.views], minlength=16)
    assert np.abs(seen - 200).max() < 60  # five standard deviations


@pytest.mark.parametrize("T", [6, 21, 42])
def test_anchors_are_those_of_sampling(T):
    (choice,) = clips(SamplingConfig(spacing=Spacing.ANCHORS), T=T, count=1)
    first = anchor_and_fill_windows(T, 5)[0]
    assert choice.frames == first.frames
    assert choice.reference_frame == first.reference


def test_strides_reach_as_far_as_the_clip():
    choices = clips(SamplingConfig(max_stride=9))
    assert {choice.frames[1] - choice.frames[0] for choice in choices} == {1, 2, 3, 4, 5}
    assert all(max(choice.frames) <= 20 for choice in choices)
    assert {max(choice.frames) for choice in choices} >= {4, 20}
    assert clips(SamplingConfig(max_stride=9), T=5, count=1)[0].frames == (0, 1, 2, 3, 4)


def test_views_go_around_from_a_random_reference():
    choices = clips(SamplingConfig(random_reference=True))
    assert {choice.reference_view for choice in choices} == set(range(16))
    for choice in choices:
        assert choice.views == tuple((choice.reference_view + k) % 16 for k in range(16))


@pytest.mark.parametrize("random_reference", [False, True])
def test_plain_samples_use_these_random_numbers_and_no_others(random_reference):
    sampling = SamplingConfig(4, 3, max_stride=4, random_reference=random_reference)
    for seed in range(50):
        rng, taken = np.random.default_rng(seed), np.random.default_rng(seed)
        found = sample_clip(sampling, 16, 8, rng)
        reference = int(taken.integers(16)) if random_reference else 0
        views = (reference + np.sort(taken.choice(16, 4, replace=False))) % 16
        stride = int(taken.integers(1, 4))  # as 8 frames are too few for a stride of 4
        start = int(taken.integers(8 - 2 * stride))
        frames = (start, start + stride, start + 2 * stride)
        assert found == ClipSample(reference, start, tuple(views.tolist()), frames)
        assert rng.bit_generator.state == taken.bit_generator.state


def test_mixed_frames_begin_at_the_reference_frame_or_one_stride_after_it():
    choices = clips(SamplingConfig(frames=4, spacing=Spacing.MIXED, max_stride=9))
    before = set()
    for choice in choices:
        (stride,) = set(np.diff(choice.frames).tolist())
        before.add((choice.frames[0] - choice.reference_frame) // stride)
        assert choice.reference_frame in (choice.frames[0], choice.frames[0] - stride)
        assert 0 <= choice.reference_frame <= choice.frames[-1] < 21
    assert before == {0, 1}
    assert {choice.frames[1] - choice.frames[0] for choice in choices} == {1, 2, 3, 4, 5, 6}


def test_mixed_frames_need_one_more():
    sampling = SamplingConfig(frames=4, spacing=Spacing.MIXED, max_stride=9)
    assert sampling.needed_frames == 5
    found = {(choice.reference_frame, choice.frames) for choice in clips(sampling, T=5)}
    assert found == {(0, (0, 1, 2, 3)), (1, (1, 2, 3, 4)), (0, (1, 2, 3, 4))}


def test_a_single_mixed_frame_may_be_any_and_its_reference_any_before_it():
    sampling = SamplingConfig(frames=1, spacing=Spacing.MIXED, max_stride=9)
    found = {(choice.reference_frame, choice.frames) for choice in clips(sampling, T=3)}
    assert found == {(first, (last,)) for first in range(3) for last in range(first, 3)}


def test_all_augmentations_occur_equally_often():
    choices = clips(VARIED, count=2400)
    seen = [(each.mirrored, each.frames[0] > each.frames[1], each.channels) for each in choices]
    all_of_them = set(product((False, True), (False, True), permutations(range(3))))
    assert set(seen) == all_of_them
    assert max(abs(seen.count(each) - 100) for each in all_of_them) < 50  # five deviations


def test_samples_are_augmented_only_if_configured():
    for choice in clips(replace(VARIED, augment=False)):
        assert not choice.mirrored
        assert choice.channels == (0, 1, 2)
        assert list(choice.frames) == sorted(choice.frames)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_an_augmented_sample_shows_the_same_views_and_frames(spacing):
    varied = replace(VARIED, spacing=spacing)
    plain_ones = clips(replace(varied, augment=False))
    for plain, choice in zip(plain_ones, clips(varied), strict=True):
        assert choice.reference_view == plain.reference_view
        assert sorted(choice.views) == sorted(plain.views)
        backwards = choice.frames[0] > choice.frames[1]
        shown = [20 - f if backwards else f for f in (choice.reference_frame, *choice.frames)]
        assert shown == [plain.reference_frame, *plain.frames]


def test_mirrored_views_keep_their_order_around_the_object():
    choices = clips(VARIED)
    for choice in choices:
        around = -1 if choice.mirrored else 1
        steps = [around * (view - choice.reference_view) % 16 for view in choice.views]
        assert steps == sorted(set(steps))
    own = {(each.mirrored, each.reference_view in each.views) for each in choices}
    assert own == set(product((False, True), (False, True)))


def test_backwards_the_reference_frame_comes_first_as_well():
    for spacing in (Spacing.CONSECUTIVE, Spacing.MIXED):
        choices = clips(replace(VARIED, spacing=spacing))
        before = set()
        for choice in choices:
            (stride,) = set(np.diff(choice.frames).tolist())
            before.add((stride < 0, (choice.frames[0] - choice.reference_frame) // stride))
            assert min(*choice.frames, choice.reference_frame) >= 0
            assert max(*choice.frames, choice.reference_frame) < 21
        assert before == set(product((False, True), range(1 + (spacing is Spacing.MIXED))))


def test_backwards_anchors_count_from_the_end():
    found = clips(replace(VARIED, spacing=Spacing.ANCHORS), T=7)
    assert {(choice.reference_frame, choice.frames) for choice in found} == {
        (0, (2, 4, 6)),
        (6, (4, 2, 0)),
    }


def test_a_single_frame_may_be_any():
    assert {choice.frames for choice in clips(SamplingConfig(frames=1), T=3)} == {(0,), (1,), (2,)}


def test_a_sample_keeps_its_random_numbers_however_the_batch_is_split():
    whole = SampleRng(5, 7, range(6))
    parts = [SampleRng(5, 7, [0, 2, 4]), SampleRng(5, 7, [1, 3, 5])]
    for draw in (
        lambda rng: rng.normal(3, 2),
        lambda rng: rng.uniform(),
        lambda rng: rng.permutation(4),
    ):
        expected, found = draw(whole), [draw(part) for part in parts]
        assert torch.equal(expected[::2], found[0])
        assert torch.equal(expected[1::2], found[1])


def test_threads_generate_the_same_numbers(monkeypatch):
    alone = SampleRng(5, 7, range(6))
    expected = [alone.normal(3, 2), alone.uniform(), alone.permutation(4)]
    monkeypatch.setattr(clip_sampling, "PARALLEL_SIZE", 1)
    shared = SampleRng(5, 7, range(6))
    found = [shared.normal(3, 2), shared.uniform(), shared.permutation(4)]
    assert all(map(torch.equal, found, expected))


def test_seeds_steps_and_positions_have_independent_random_numbers():
    triples = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    numbers = {float(SampleRng(seed, step, [place]).uniform()) for seed, step, place in triples}
    assert len(numbers) == 4


def test_numbers_of_a_step_are_independent_and_have_their_distributions():
    rng = SampleRng(0, 0, range(4))
    first = rng.normal(5000)
    assert not torch.equal(first, rng.normal(5000))
    torch.testing.assert_close(first.mean(1), torch.zeros(4), atol=0.06, rtol=0)
    torch.testing.assert_close(first.std(1), torch.ones(4), atol=0.06, rtol=0)
    uniform = rng.uniform(5000)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert rng.permutation(7).sort(1).values.tolist() == [list(range(7))] * 4
    assert len(rng) == 4
