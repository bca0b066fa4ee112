"""A prepared clip can be read back from its files, and its preview shows the mask."""

import numpy as np
import pytest

from generation.clip.cropping import Crop
from generation.clip.preparing import SquareClip
from generation.clip.reading import FrameSelection, read_clip
from generation.clip.writing import COLUMNS, GAP_COLOR, GAP_PX, preview, write_clip


def half_opaque(T: int = 9, size: int = 32) -> np.ndarray:
    """The left half orange and opaque, the right half empty."""
    images = np.full((T, size, size, 4), (255, 255, 255, 0), np.uint8)
    images[:, :, : size // 2] = (240, 120, 10, 255)
    images[:, 0, 0, 0] = np.arange(T)
    return images


def prepared(images: np.ndarray) -> SquareClip:
    T = len(images)
    crop = Crop(((16, 16),) * T, 32, 16.0)
    return SquareClip(images, 10.0, True, tuple(range(T)), crop, ())


def test_the_frames_come_back_as_the_input_of_the_next_program(tmp_path):
    clip = prepared(half_opaque())
    write_clip(clip, tmp_path)
    assert (tmp_path / "preview.png").is_file() and (tmp_path / "t008.png").is_file()
    np.testing.assert_array_equal(read_clip(tmp_path, FrameSelection()).images, clip.images)


def test_a_missing_folder_is_not_created(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_clip(prepared(half_opaque()), tmp_path / "missing")
    assert not list(tmp_path.iterdir())


def test_the_preview_shows_the_object_on_a_checkerboard_with_gaps():
    sheet = preview(half_opaque())
    step = 32 + GAP_PX
    assert sheet.shape == (2 * step + GAP_PX, COLUMNS * step + GAP_PX, 3)
    tile = sheet[step + GAP_PX : 2 * step, step + GAP_PX : 2 * step]  # the last of the frames
    assert (tile[1:, 1:16] == (240, 120, 10)).all()
    ground = tile[:, 16:].reshape(-1, 3)
    assert len(np.unique(ground, axis=0)) == 2 and (ground[:, 1] < 230).all()
    assert (sheet[:GAP_PX] == GAP_COLOR).all() and (sheet[-1, -1] == GAP_COLOR).all()


def test_large_frames_are_shown_small():
    assert preview(half_opaque(T=3, size=400)).shape == (198, 3 * 195 + 3, 3)
