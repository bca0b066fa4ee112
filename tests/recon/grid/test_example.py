"""The bundled example is a full grid with held-out images, and small."""

from pathlib import Path

from recon.grid import read_grid

ROBOT = Path(__file__).parents[3] / "examples" / "robot"


def test_the_example_is_a_grid_of_16_views_and_21_frames():
    grid = read_grid(ROBOT)
    assert (grid.V, grid.T) == (16, 21)
    assert grid.is_full and grid.alpha_known
    assert (grid.images[..., 3] == 255).mean() > 0.1


def test_the_example_has_held_out_images_and_a_license():
    test = read_grid(ROBOT, "test")
    assert (test.V, test.T) == (8, 5)
    assert test.frame_numbers == (0, 5, 10, 15, 20)
    assert "CC0" in (ROBOT / "LICENSE.txt").read_text()


def test_the_example_fits_into_three_megabytes():
    assert sum(path.stat().st_size for path in ROBOT.rglob("*") if path.is_file()) < 3e6
