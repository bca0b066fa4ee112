import numpy as np
import pytest

from recon.selection import distinct, evenly_spaced, nearest


def test_evenly_spaced_indices_are_different_and_include_both_ends():
    assert evenly_spaced(21, 3) == [0, 10, 20]
    assert evenly_spaced(2, 5) == [0, 1]
    assert evenly_spaced(1, 4) == [0]
    for count in range(1, 40):
        for wanted in range(2, 45):
            found = evenly_spaced(count, wanted)
            assert len(set(found)) == min(count, wanted)
            assert (found[0], found[-1]) == (0, count - 1)


def test_the_nearest_values_are_those_of_a_search_through_all():
    rng = np.random.default_rng(0)
    values, targets = np.sort(rng.random(30)), np.sort(rng.random(200)) * 1.2 - 0.1
    expected = np.abs(values[:, None] - targets).argmin(axis=0)
    np.testing.assert_array_equal(nearest(values, targets), expected)


def test_of_a_tie_the_first_value_is_taken_and_a_single_one_always():
    np.testing.assert_array_equal(nearest(np.arange(3.0), np.array([0.5, 1.5])), [0, 1])
    np.testing.assert_array_equal(nearest(np.zeros(1), np.array([-1.0, 0.0, 2.0])), [0, 0, 0])


@pytest.mark.parametrize(
    ("indices", "count", "expected"),
    [
        ([0, 2, 2, 3], 4, [0, 1, 2, 3]),
        ([0, 2, 2, 3], 5, [0, 2, 3, 4]),
        ([0, 0, 0], 9, [0, 1, 2]),
        ([1, 4, 7], 9, [1, 4, 7]),
    ],
)
def test_equal_indices_become_neighbors_within_the_limit(indices, count, expected):
    np.testing.assert_array_equal(distinct(np.array(indices), count), expected)
