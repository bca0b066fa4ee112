"""Details that vanish from hidden surfaces, and areas that stay."""

import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes, median_filter

from generation.lift.hidden_colors import (
    REACH_PX,
    details,
    painted_over,
    without_details,
    without_enclosed,
    without_small_details,
)

SIZE = 64
EIGHT = np.ones((3, 3), np.bool_)  # neighbors of a pixel on a path
YELLOW, BLACK, BLUE = np.array([(220, 190, 40), (10, 10, 10), (20, 40, 200)], np.uint8)


def disc(row, column, radius):
    y, x = np.mgrid[:SIZE, :SIZE]
    return (y - row) ** 2 + (x - column) ** 2 < radius**2


def random_color():
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("radius", [2, 4, 9])
@pytest.mark.parametrize("patch", [BLACK, BLUE, np.array([255, 255, 255], np.uint8)])
def test_eyes_of_any_size_and_color_vanish(radius, patch):
    mask = disc(32, 32, 28)
    color = np.where(mask[..., None], YELLOW, np.uint8(0))
    eyes = disc(25, 22, radius) | disc(25, 42, radius)
    face = np.where(eyes[..., None], patch, color)
    found = without_details(face, face, mask)
    np.testing.assert_array_equal(found, color)


def test_a_face_on_a_screen_vanishes_with_it():
    mask = disc(32, 32, 28)
    color = np.where(mask[..., None], YELLOW, np.uint8(0))
    screen, eyes = disc(32, 32, 15), disc(30, 26, 3) | disc(30, 38, 3)
    face = np.where(eyes[..., None], BLUE, np.where(screen[..., None], BLACK, color))
    np.testing.assert_array_equal(without_details(face, face, mask), color)


def test_what_reaches_the_outline_stays():
    mask = np.ones((SIZE, SIZE), np.bool_)
    color = np.empty((SIZE, SIZE, 3), np.uint8)
    color[:, :32], color[:, 32:] = YELLOW, BLUE
    np.testing.assert_array_equal(without_details(color, color, mask), color)


def test_eyes_that_reach_the_outline_are_details():
    mask = disc(32, 32, 28)
    color = np.where(mask[..., None], YELLOW, np.uint8(0))
    eyes = disc(20, 14, 7) | disc(20, 50, 7)
    face = np.where((eyes & mask)[..., None], BLACK, color)
    found = without_details(face, face, mask)
    np.testing.assert_allclose(found[mask], color[mask], atol=1)
    assert (details(face, mask) & mask & eyes).sum() > 0.9 * (mask & eyes).sum()


def test_what_goes_around_is_no_detail():
    y, x = np.mgrid[:SIZE, :SIZE]
    mask = (abs(x - 32) < 12) & (abs(y - 32) < 30)
    belt, shoes = abs(y - 30) < 3, y > 52
    color = np.where(belt[..., None], BLACK, np.where(shoes[..., None], BLUE, YELLOW))
    assert not details(color, mask).any()


def test_the_most_frequent_color_is_no_detail():
    """The part of a yellow body between two eyes has few borders on the outline, too."""
    mask = disc(32, 32, 28)
    band = mask & (abs(np.mgrid[:SIZE, :SIZE][0] - 14) < 5)
    color = np.where(mask[..., None], YELLOW, np.uint8(0))
    face = np.where((band & ~disc(14, 32, 6))[..., None], BLACK, color)
    assert not details(face, mask)[disc(14, 32, 3)].any()


def test_a_detail_is_painted_over_with_what_is_around_it():
    mask = disc(32, 32, 28)
    color = np.empty((SIZE, SIZE, 3), np.uint8)
    color[:32], color[32:] = YELLOW, BLUE
    patch = disc(20, 32, 5)
    found = painted_over(np.where(patch[..., None], BLACK, color), patch, mask)
    np.testing.assert_allclose(found[:25], color[:25], atol=1)
    np.testing.assert_array_equal(found[32:], color[32:])


def test_colors_beside_the_object_have_no_part_in_it():
    mask = disc(32, 32, 3) | disc(10, 10, 1)
    color = np.where(mask[..., None], YELLOW, BLUE)
    np.testing.assert_array_equal(without_details(color, color, mask), color)


def test_dark_patches_are_the_holes_of_every_level():
    """What encloses is at least as bright: agreement with the holes of thresholded images."""
    mask = disc(30, 33, 25)
    color = random_color() // 32 * 32
    color[..., 1:] = color[..., :1]
    dark_filled = np.zeros((SIZE, SIZE), np.uint8)
    for level in np.unique(color):
        bright = mask & (color[..., 0] >= level)
        solid = binary_fill_holes(bright, EIGHT) & mask
        dark_filled[solid] = level
    expected = np.full((SIZE, SIZE), 255, np.uint8)
    for level in np.unique(dark_filled)[::-1]:
        dark = mask & (dark_filled <= level)
        expected[binary_fill_holes(dark, EIGHT) & mask] = level
    found = without_enclosed(color, mask)
    np.testing.assert_array_equal(found[mask, 0], expected[mask])
    assert (found[mask] != color[mask]).any()
    np.testing.assert_array_equal(found[~mask], color[~mask])


def test_small_details_go_by_a_median_filter():
    color = random_color()
    found = without_small_details(color, np.ones((SIZE, SIZE), np.bool_))
    expected = median_filter(color, (2 * REACH_PX + 1, 2 * REACH_PX + 1, 1))
    inner = np.s_[REACH_PX:-REACH_PX, REACH_PX:-REACH_PX]
    np.testing.assert_array_equal(found[inner], expected[inner])


def test_an_empty_mask_changes_nothing():
    color = random_color()
    nothing = np.zeros((SIZE, SIZE), np.bool_)
    np.testing.assert_array_equal(without_details(color, color, nothing), color)
