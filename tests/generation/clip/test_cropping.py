"""The square contains the object in every frame at the requested size, and can be inverted."""

import json

import numpy as np
import pytest

from generation.clip import cropping
from generation.clip.cropping import bounding_box, centered_crop, cut_square, following_crop
from recon.errors import InputError
from recon.grid.grid import composite


def rectangle(box, height: int, width: int) -> np.ndarray:
    """RGBA, opaque and orange in the box; what is hidden is green, which must never show."""
    image = np.zeros((height, width, 4), np.uint8)
    image[..., 1] = 255
    top, left, bottom, right = box
    image[top:bottom, left:right] = (240, 120, 10, 255)
    return image


def boxes(*found) -> np.ndarray:
    return np.array(found, dtype=np.float64)


def test_the_box_of_a_mask_holds_exactly_what_is_set():
    mask = np.zeros((20, 30), bool)
    mask[3, 7] = mask[11, 5] = True
    np.testing.assert_array_equal(bounding_box(mask), [3, 5, 12, 8])
    assert np.isnan(bounding_box(np.zeros((4, 4), bool))).all()


@pytest.mark.parametrize(("height", "width"), [(100, 100), (80, 120), (121, 61)])
def test_the_farthest_side_over_all_frames_sets_the_square(height, width):
    row, column = height // 2, width // 2
    crop = centered_crop(
        boxes((row - 5, column - 9, row + 7, column + 2), (row - 20, column - 3, row, column + 4)),
        height,
        width,
        ratio=0.8,
    )
    assert crop.half == 20 and crop.side == 50
    assert crop.centers == ((row, column), (row, column))


def test_frames_without_an_object_do_not_matter():
    empty = [np.nan] * 4
    with_empty = centered_crop(boxes(empty, (40, 40, 60, 70), empty), 100, 100, 0.9)
    assert with_empty.side == centered_crop(boxes((40, 40, 60, 70)), 100, 100, 0.9).side
    following = following_crop(boxes(empty, (40, 40, 60, 70), empty), 0.9)
    np.testing.assert_allclose(following.centers, [[50, 55]] * 3)


@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 128), (128, 64)])
def test_the_object_lies_where_the_crop_says(height, width):
    box = (height // 2 - 12, width // 2 - 20, height // 2 + 16, width // 2 + 8)
    crop = centered_crop(boxes(box), height, width, ratio=0.8)
    assert crop.side == 50
    square = cut_square(rectangle(box, height, width), crop, 0, size=200)
    found = bounding_box(square[..., 3] > 127)
    corner = np.array(crop.centers[0]) - crop.side // 2
    undone = found * crop.side / 200 + np.tile(corner, 2)
    np.testing.assert_allclose(undone, box, atol=0.3)


def test_the_object_fills_its_share_of_the_square():
    box = (20, 30, 80, 70)
    crop = centered_crop(boxes(box), 100, 100, ratio=0.75)
    found = bounding_box(cut_square(rectangle(box, 100, 100), crop, 0, 160)[..., 3] > 127)
    assert found[2] - found[0] == pytest.approx(0.75 * 160, abs=1)


def test_an_object_that_reaches_the_border_of_a_wide_image_is_whole():
    box = (0, 0, 40, 100)
    crop = centered_crop(boxes(box), 40, 100, ratio=1.0)
    square = cut_square(rectangle(box, 40, 100), crop, 0, crop.side)
    np.testing.assert_array_equal(bounding_box(square[..., 3] > 0), [30, 0, 70, 100])


@pytest.mark.parametrize("hidden", [0, 255])
def test_hidden_colors_do_not_bleed_into_edges(hidden):
    box = (20, 30, 70, 60)
    crop = centered_crop(boxes(box), 100, 100, ratio=0.9)
    green, other = rectangle(box, 100, 100), rectangle(box, 100, 100)
    other[other[..., 3] == 0, :3] = hidden
    first, second = (composite(cut_square(image, crop, 0, 240)) for image in (green, other))
    np.testing.assert_array_equal(first, second)


def test_images_without_alpha_are_opaque_inside_and_empty_outside():
    image = np.full((60, 60, 3), 200, np.uint8)
    square = cut_square(image, centered_crop(boxes((0, 0, 60, 60)), 60, 60, 0.75), 0, 80)
    assert (square[10:70, 10:70, 3] == 255).all()
    assert square[..., 3].sum() == 255 * 60 * 60


def moving_boxes(T: int, wobble: float = 0.0) -> np.ndarray:
    """Bounding boxes that move down and right at constant speed, with a waving limb."""
    t = np.arange(T)
    limb = wobble * np.sin(2 * np.pi * t / 5)
    return np.stack([20 + 2 * t, 10 + 5 * t, 60 + 2 * t, 40 + 5 * t + limb], axis=-1)


def test_steady_motion_is_followed_exactly():
    crop = following_crop(moving_boxes(21), ratio=0.8)
    t = np.arange(21)
    np.testing.assert_allclose(crop.centers, np.stack([40 + 2 * t, 25 + 5 * t], axis=-1))
    assert crop.side == 50


def test_a_single_frame_is_followed_too():
    crop = following_crop(boxes((40, 40, 60, 70)), ratio=0.75)
    assert (crop.centers, crop.side) == (((50, 55),), 40)


def test_limbs_do_not_shake_the_square():
    centers = np.array(following_crop(moving_boxes(21, wobble=10.0), 0.8).centers)
    shaken = np.diff(moving_boxes(21, wobble=10.0)[:, [1, 3]].mean(axis=1), n=2)
    assert np.abs(np.diff(centers[:, 1], n=2)).max() < 0.2 * np.abs(shaken).max()


def test_the_square_that_follows_holds_the_object_in_every_frame():
    found = moving_boxes(21, wobble=10.0)
    crop = following_crop(found, ratio=0.9)
    centers = np.array(crop.centers)
    assert (centers - found[:, :2] <= crop.half + 1e-9).all()
    assert (found[:, 2:] - centers <= crop.half + 1e-9).all()


def test_a_square_between_pixels_is_cut_between_pixels():
    rows, columns = np.mgrid[:80, :80]
    image = np.stack([2 * rows, 2 * columns, rows + columns, 0 * rows + 255], -1).astype(np.uint8)
    crop = cropping.Crop(((40.0, 40.0), (40.5, 41.5)), side=40, half=20.0)
    on, between = (cut_square(image, crop, t, 40)[8:-8, 8:-8].astype(int) for t in (0, 1))
    assert (between - on)[..., 0].mean() == pytest.approx(1.0, abs=0.1)
    assert (between - on)[..., 1].mean() == pytest.approx(3.0, abs=0.1)


def test_a_crop_is_json():
    crop = following_crop(moving_boxes(5, wobble=1.0), 0.9)
    assert json.loads(json.dumps(crop._asdict()))["side"] == crop.side


def test_a_square_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(cropping, "MAX_SQUARE", 100)
    with pytest.raises(InputError, match="found 111"):
        centered_crop(boxes((0, 0, 100, 100)), 100, 100, 0.9)
