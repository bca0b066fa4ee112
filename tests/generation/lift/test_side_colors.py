"""Stripes vanish on what is stretched; what the image shows, and other parts, keep their colors."""

import numpy as np

from generation.lift.side_colors import without_stripes


def sheet(rows: int, columns: int, stretch: float) -> tuple[np.ndarray, np.ndarray]:
    """A sheet of quads, 1 high and `stretch` wide: vertices and triangles."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    vertices = np.stack([row, stretch * column, 0 * row], axis=1).astype(np.float32)
    corner = (row * columns + column).reshape(rows, columns)[:-1, :-1].ravel()
    one, two = (
        corner[:, None] + offsets for offsets in ([0, 1, columns], [1, columns + 1, columns])
    )
    return vertices, np.concatenate([one, two]).astype(np.int32)


def striped(rows: int, columns: int) -> np.ndarray:
    gray = np.where(np.arange(rows) % 2, 200, 100)
    return np.repeat(gray, columns)[:, None].repeat(3, 1).astype(np.uint8)


def smoothed(rows: int, columns: int, stretch: float, colors: np.ndarray) -> np.ndarray:
    vertices, triangles = sheet(rows, columns, stretch)
    bounds, spacing = np.zeros(len(vertices), int), np.ones(len(vertices), np.float32)
    return without_stripes(vertices, triangles, colors, bounds, spacing)


def test_stripes_along_stretched_strips_vanish():
    found = smoothed(40, 2, 20.0, striped(40, 2)).reshape(40, 2, 3)
    assert found[8:-8].std() < 2
    assert abs(found.mean() - 150) < 1


def test_what_is_not_stretched_keeps_its_colors():
    colors = np.random.default_rng(0).integers(0, 256, (400, 3)).astype(np.uint8)
    np.testing.assert_array_equal(smoothed(20, 20, 1.0, colors), colors)


def test_colors_do_not_diffuse_along_the_strips():
    colors = np.tile(np.array([[255, 0, 0], [0, 0, 255]], np.uint8), (30, 1))
    np.testing.assert_array_equal(smoothed(30, 2, 20.0, colors), colors)


def test_a_slope_is_smoothed_less_than_a_wall():
    spread = [smoothed(40, 3, stretch, striped(40, 3)).std() for stretch in (1.5, 3.0, 8.0)]
    assert spread[0] == striped(40, 3).std() > spread[1] > spread[2]


def test_front_and_back_do_not_mix():
    vertices, triangles = sheet(20, 2, 20.0)
    bounds = np.repeat([0, 1], len(vertices) // 2)
    colors = np.array([[200, 10, 10], [10, 10, 200]], np.uint8)[bounds]
    spacing = np.ones(len(vertices), np.float32)
    found = without_stripes(vertices, triangles, colors, bounds, spacing)
    np.testing.assert_array_equal(found, colors)


def test_a_mesh_without_triangles_keeps_its_colors():
    colors = np.full((3, 3), 7, np.uint8)
    triangles = np.zeros((0, 3), np.int32)
    vertices, spacing = np.zeros((3, 3), np.float32), np.ones(3, np.float32)
    found = without_stripes(vertices, triangles, colors, np.zeros(3, int), spacing)
    np.testing.assert_array_equal(found, colors)
