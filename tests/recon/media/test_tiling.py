"""Tiled images keep every cell in its place."""

import numpy as np

from recon.media import in_rows, thumbnail, tile_images


def cell(value: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_cells_lie_between_gaps_and_borders():
    sheet = tile_images([[cell(1), cell(2)], [cell(3), None]], 2, 3, (9, 9, 9))
    assert sheet.shape == (3 + 4 + 2 + 4 + 3, 3 + 6 + 2 + 6 + 3, 3)
    assert (sheet[3:7, 3:9] == 1).all()
    assert (sheet[3:7, 11:17] == 2).all()
    assert (sheet[9:13, 3:9] == 3).all()
    assert (sheet[9:13, 11:17] == 9).all()
    assert (sheet == 9).sum() == sheet.size - 3 * 4 * 6 * 3


def test_rows_may_differ_in_size():
    sheet = tile_images([[cell(1)] * 3, [cell(2, 8, 12)]])
    assert sheet.shape == (12, 18, 3)
    assert (sheet[4:, :12] == 2).all() and (sheet[4:, 12:] == 255).all()


def test_the_last_row_is_filled_up_with_blank_cells():
    rows = in_rows([cell(0)] * 5, 3)
    assert [len(row) for row in rows] == [3, 3]
    assert rows[1][2] is None


def test_thumbnails_are_means_of_areas_and_never_enlarged():
    image = np.random.default_rng(0).integers(0, 255, (8, 12, 3)).astype(np.uint8)
    small = thumbnail(image, 6)
    mean = image.reshape(4, 2, 6, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small, mean, atol=1)
    np.testing.assert_array_equal(thumbnail(image, 100), image)
