"""The contact sheet shows views in rows and frames in columns."""

import numpy as np

from recon.grid.writing import GAP_PX, contact_sheet


def test_small_images_are_shown_as_they_are(tiny_grid):
    sheet = contact_sheet(tiny_grid)
    step = 24 + GAP_PX
    assert sheet.shape == (4 * step - GAP_PX, 3 * step - GAP_PX, 3)
    for view, frame in np.ndindex(4, 3):
        tile = sheet[view * step :, frame * step :][:24, :24]
        np.testing.assert_array_equal(tile, tiny_grid.over(indices=[view * 3 + frame])[0])


def test_large_grids_are_shown_in_part_and_smaller(tiny_grid):
    sheet = contact_sheet(tiny_grid, rows=2, columns=2, tile_px=12)
    assert sheet.shape == (2 * 12 + GAP_PX, 2 * 12 + GAP_PX, 3)


def test_what_a_sparse_grid_lacks_is_white(tiny_grid):
    sheet = contact_sheet(tiny_grid.subset(np.arange(1)))
    assert (sheet[:24, :24] != 255).any()
    assert (sheet[24:] == 255).all()
