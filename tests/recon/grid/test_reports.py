"""Inputs of public reports give the right pictures for their cameras; see reports/README.md."""

from pathlib import Path

import pytest

from recon.grid import read_grid

REPORTS = Path(__file__).parent / "reports"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("toy/backslashes.json", (3, 2, 64, 64)),
        ("toy/byte_order_mark.json", (3, 2, 64, 64)),
        ("toy/downscaled.json", (3, 2, 64, 64)),
        ("toy/homogeneous.json", (3, 2, 64, 64)),
        ("toy/intrinsic_matrix.json", (3, 2, 64, 64)),
        ("mask_path", (3, 2, 64, 64)),
        ("mixed_sizes", (3, 2, 64, 80)),
        ("distorted", (3, 2, 64, 64)),
        ("y_up", (4, 2, 64, 64)),
    ],
)
def test_the_toy_is_where_the_cameras_see_it(name, shape, toy_agreement):
    if name == "distorted":
        pytest.importorskip("cv2")
    grid = read_grid(REPORTS / name)
    assert (grid.V, grid.T, grid.height, grid.width) == shape
    assert toy_agreement(grid) > 0.97


def test_a_moving_camera_without_times_is_one_moment_with_a_warning(caplog):
    grid = read_grid(REPORTS / "no_time")
    assert (grid.V, grid.T) == (4, 1)
    assert "all 4 images are taken as one moment" in caplog.text
