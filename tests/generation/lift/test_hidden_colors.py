"""Details that vanish from hidden surfaces, and areas that stay."""

import numpy as np
from scipy.ndimage import median_filter

from generation.lift.hidden_colors import REACH_PX, STRIDE, without_details

SIZE = 64
YELLOW, BLACK, BLUE = np.array([(220, 190, 40), (10, 10, 10), (20, 40, 200)], np.uint8)


def disc(row, column, radius):
    y, x = np.mgrid[:SIZE, :SIZE]
    return (y - row) ** 2 + (x - column) ** 2 < radius**2


def test_eyes_vanish():
    mask = disc(32, 32, 28)
    color = np.where(mask[..., None], YELLOW, np.uint8(0))
    eyes = disc(25, 22, 4) | disc(25, 42, 4)
    found = without_details(np.where(eyes[..., None], BLACK, color), mask)
    np.testing.assert_array_equal(found, color)


def test_large_areas_keep_their_border():
    mask = np.ones((SIZE, SIZE), np.bool_)
    color = np.empty((SIZE, SIZE, 3), np.uint8)
    color[:, :32], color[:, 32:] = YELLOW, BLUE
    np.testing.assert_array_equal(without_details(color, mask), color)


def test_colors_beside_the_object_have_no_part_in_it():
    mask = disc(32, 32, 3) | disc(10, 10, 1)
    color = np.where(mask[..., None], YELLOW, BLUE)
    np.testing.assert_array_equal(without_details(color, mask), color)


def test_inside_it_is_the_median_filter_of_a_sparse_square():
    color = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    found = without_details(color, np.ones((SIZE, SIZE), np.bool_))
    sparse = np.zeros((2 * REACH_PX + 1,) * 2, np.bool_)
    sparse[::STRIDE, ::STRIDE] = True
    expected = np.stack([median_filter(color[..., c], footprint=sparse) for c in range(3)], -1)
    inner = np.s_[REACH_PX:-REACH_PX, REACH_PX:-REACH_PX]
    np.testing.assert_array_equal(found[inner], expected[inner])


def test_an_empty_mask_changes_nothing():
    color = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    np.testing.assert_array_equal(without_details(color, np.zeros((SIZE, SIZE), np.bool_)), color)
