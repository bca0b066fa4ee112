"""A grid knows its axes and refuses parts that do not fit together."""

import dataclasses

import numpy as np
import pytest

from recon.errors import GridError
from recon.grid import grid_from_views, orbit_camera
from recon.grid.grid import composite, frame_times


def test_images_are_found_by_view_and_frame(tiny_grid):
    assert (tiny_grid.V, tiny_grid.T, len(tiny_grid)) == (4, 3, 12)
    assert tiny_grid.is_full
    for v, t in np.ndindex(4, 3):
        index = tiny_grid.index(v, t)
        np.testing.assert_array_equal(tiny_grid.image(v, t), tiny_grid.images[index])
        assert tiny_grid.camera_of(index) is tiny_grid.cameras[v]
        assert tiny_grid.time_of(index) == t / 2
    np.testing.assert_array_equal(tiny_grid.at_frame(1), [1, 4, 7, 10])
    np.testing.assert_array_equal(tiny_grid.of_view(2), [6, 7, 8])


def test_a_missing_image_of_a_sparse_grid_is_a_key_error(tiny_grid):
    sparse = tiny_grid.subset(np.arange(5))
    assert not sparse.is_full
    np.testing.assert_array_equal(sparse.at_frame(2), [2])
    with pytest.raises(KeyError):
        sparse.index(3, 0)


@pytest.mark.parametrize("background", [(0, 0, 0), (1, 1, 1), (0.2, 0.4, 0.6)])
def test_compositing_agrees_with_the_formula_to_half_a_step(background):
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 4), dtype=np.uint8)
    rgb, alpha = image[..., :3] / 255, image[..., 3:] / 255
    expected = rgb * alpha + np.array(background) * (1 - alpha)
    assert np.abs(composite(image, background) / 255 - expected).max() < 0.51 / 255
    np.testing.assert_array_equal(composite(image[1], background), composite(image, background)[1])


def test_times_cover_the_unit_interval():
    np.testing.assert_array_equal(frame_times(1), [0])
    np.testing.assert_allclose(frame_times(5), [0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((12, 24, 24, 4))}, "uint8"),
        ({"images": np.zeros((12, 24, 24, 3), np.uint8)}, "uint8"),
        ({"images": np.zeros((12, 24, 20, 4), np.uint8)}, "20×24"),
        ({"times": np.array([0, 0.5, 0.5])}, "ascend"),
        ({"times": np.array([0, 0.5, 1.5])}, "ascend"),
        ({"times": np.array([0, np.nan, 1])}, "finite"),
        ({"fps": 0.0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"view": np.arange(12)}, "view must be within"),
        ({"frame": np.arange(12) - 1}, "frame must be within"),
        ({"view": np.zeros(11, int)}, "shape"),
        ({"frame": np.zeros(12, int)}, "more than one image"),
        ({"view_numbers": (1, 2)}, "4 view_numbers"),
    ],
)
def test_inconsistent_shapes_times_and_indices_are_refused(tiny_grid, change, message):
    with pytest.raises(GridError, match=message):
        dataclasses.replace(tiny_grid, **change)


def test_a_grid_without_images_is_refused():
    camera = orbit_camera(0, 0, 2, 30, 8, 8)
    with pytest.raises(GridError, match="at least one"):
        grid_from_views([camera], np.zeros((1, 0, 8, 8, 4), np.uint8))
    with pytest.raises(GridError, match="V=1"):
        grid_from_views([camera], np.zeros((2, 1, 8, 8, 4), np.uint8))
