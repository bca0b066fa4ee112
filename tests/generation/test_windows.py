"""Windows over clips of any length: the published ones, and properties of all."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest

from generation.presets import presets
from generation.windows import MIN_FRAMES, Window, anchor_and_fill_windows, chained_windows

LENGTHS = range(MIN_FRAMES, 131)
METHODS = [
    pytest.param(partial(method, T=T), T, id=f"{method.__name__}-{T}")
    for method in (anchor_and_fill_windows, chained_windows)
    for T in (5, 12)
]
Method = Callable[[int], list[Window]]


def frames_from(start: int, T: int = 5) -> tuple[int, ...]:
    return tuple(range(start, start + T))


def test_21_frames_of_sv4d_are_five_anchors_and_five_windows_both_ways():
    assert presets["sv4d"].windows(21) == [
        Window((4, 8, 12, 16, 20), reference=0),
        *(Window(frames_from(t), reference=t, backward_reference=t + 4) for t in (0, 4, 8, 12, 16)),
    ]


def test_windows_of_sv4d_are_anchors_and_then_fills():
    kinds = [window.kind for window in presets["sv4d"].windows(21)]
    assert kinds == ["anchor"] + 5 * ["fill"]
    assert {window.kind for window in presets["sv4d2"].windows(21)} == {"anchor"}


def test_21_frames_of_sv4d2_are_two_chunks_the_second_from_its_first_frame():
    assert presets["sv4d2"].windows(21) == [
        Window(frames_from(0, 12)),
        Window(frames_from(9, 12), reference=9),
    ]


def test_21_frames_of_8_views_are_five_chunks_that_share_a_frame():
    assert presets["sv4d2_8views"].windows(21) == [
        Window(frames_from(0)),
        *(Window(frames_from(t), reference=t) for t in (4, 8, 12, 16)),
    ]


@pytest.mark.parametrize(("method", "T"), METHODS)
@pytest.mark.parametrize("n", [5, 7, 12])
def test_a_clip_that_one_window_holds_is_one_window(method: Method, T: int, n: int):
    if n <= T:
        (only,) = method(n)
        assert only.frames == tuple(range(n))
        assert only.reference in (None, 0)
        assert only.backward_reference is None


@pytest.mark.parametrize(("method", "T"), METHODS)
def test_every_frame_is_sampled_except_a_given_first_one(method: Method, T: int):
    for n in LENGTHS:
        windows = method(n)
        made = {frame for each in windows for frame in each.frames}
        there = {0} if windows[0].reference == 0 else set()
        assert made | there == set(range(n)), n


@pytest.mark.parametrize(("method", "T"), METHODS)
def test_frames_of_a_window_ascend_and_are_at_most_t(method: Method, T: int):
    for n in LENGTHS:
        for each in method(n):
            assert len(each.frames) <= T
            assert all(a < b for a, b in itertools.pairwise(each.frames)), (n, each)


@pytest.mark.parametrize(("method", "T"), METHODS)
def test_a_window_leaves_frames_out_only_where_there_are_too_many(method: Method, T: int):
    for n in LENGTHS:
        for each in method(n):
            span = each.frames[-1] - each.frames[0] + 1
            assert len(each.frames) == min(T, span), (n, each)


@pytest.mark.parametrize("T", [5, 12])
def test_references_of_anchor_and_fill_windows_are_sampled_before(T: int):
    """Frame 0 comes from SV3D."""
    for n in LENGTHS:
        made = {0}
        for each in anchor_and_fill_windows(n, T):
            assert each.reference in made, (n, each)
            assert each.backward_reference is None or each.backward_reference in made, (n, each)
            made.update(each.frames)


@pytest.mark.parametrize("T", [5, 12])
def test_references_of_chained_windows_are_sampled_before(T: int):
    for n in LENGTHS:
        first, *others = chained_windows(n, T)
        assert first.reference is None
        made = set(first.frames)
        for each in others:
            assert each.reference in made, (n, each)
            assert each.backward_reference is None
            made.update(each.frames)


@pytest.mark.parametrize(("method", "T"), METHODS)
def test_the_references_of_a_fill_are_its_ends(method: Method, T: int):
    for n in LENGTHS:
        for each in method(n):
            if each.backward_reference is not None:
                assert each.backward_reference == each.frames[-1]
                assert each.reference == each.frames[0]
            elif each.reference:
                assert each.reference == each.frames[0]


@pytest.mark.parametrize(("method", "T"), METHODS)
def test_no_window_is_needless(method: Method, T: int):
    for n in LENGTHS:
        made: set[int] = set()
        for each in method(n):
            assert set(each.frames) - made - ({0} if each.reference == 0 else set()), (n, each)
            made.update(each.frames)


@pytest.mark.parametrize("T", [5, 12])
def test_no_two_windows_in_a_row_would_fit_into_one_where_one_lies_between_anchors(T: int):
    for n in range(MIN_FRAMES, min(T * (T - 1), 130) + 2):
        for a, b in itertools.pairwise(anchor_and_fill_windows(n, T)[1:]):
            assert b.frames[-1] - a.frames[0] >= T, (n, a, b)


@pytest.mark.parametrize("T", [5, 12])
def test_anchors_are_spread_evenly_and_end_with_the_clip(T: int):
    for n in LENGTHS:
        anchors = anchor_and_fill_windows(n, T)[0].frames
        assert anchors[-1] == n - 1
        if n > T:
            gaps = [b - a for a, b in itertools.pairwise((0, *anchors))]
            assert len(gaps) == T
            assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("T", [5, 12])
def test_chained_windows_share_one_frame_but_for_the_last_which_ends_with_the_clip(T: int):
    for n in LENGTHS:
        windows = chained_windows(n, T)
        shared = [len(set(a.frames) & set(b.frames)) for a, b in itertools.pairwise(windows)]
        assert all(count == 1 for count in shared[:-1])
        assert all(count >= 1 for count in shared)
        assert windows[-1].frames[-1] == n - 1


def test_a_window_is_called_by_its_first_and_last_frame():
    assert Window((4, 8, 12, 16, 20), 0).name == "frames 4–20"
