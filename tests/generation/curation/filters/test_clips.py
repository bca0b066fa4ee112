import numpy as np
import pytest

from generation.curation.filters.clips import BRIGHTEST_OBJECT, evenly, view_clip
from tests.generation.curation.filters.discs import SIDE, altered, steady, textured_disc


def test_the_crop_contains_the_object_in_all_frames():
    grid = textured_disc(steady(6, step=3.0))
    clip = view_clip(grid, 0)
    assert clip is not None
    opaque = grid.images[grid.of_view(0)][..., 3] >= 128
    assert (clip.alpha >= 0.5).sum() == opaque.sum()
    assert clip.coverage == pytest.approx(opaque.mean(axis=(1, 2)))
    assert clip.diagonal_px == pytest.approx(np.hypot(33, 33 + 15), abs=1.5)


def test_a_white_object_has_an_outline():
    grid = textured_disc(steady())

    def whiten(images):
        images[..., :3] = 255
        return images

    clip = view_clip(altered(grid, whiten), 0)
    assert clip is not None
    assert clip.gray[clip.alpha == 1] == pytest.approx(BRIGHTEST_OBJECT, abs=1e-5)
    assert clip.gray[clip.alpha == 0] == pytest.approx(1.0, abs=1e-5)


def test_an_empty_view_has_no_clip():
    assert view_clip(altered(textured_disc(steady()), np.zeros_like), 0) is None


def test_only_an_object_at_the_border_touches_it():
    at_border = textured_disc([(48.0, 48.0), (48.0, SIDE - 10.0)])
    clip = view_clip(at_border, 0)
    assert clip is not None
    assert clip.touches_border.tolist() == [False, True]


def test_downsampling_keeps_means_and_never_upsamples():
    clip = view_clip(textured_disc(steady()), 0)
    assert clip is not None
    small = clip.shrunk(20)
    assert max(small.alpha.shape[1:]) == 20
    assert small.rgb.mean() == pytest.approx(clip.rgb.mean(), abs=0.01)
    assert small.diagonal_px / clip.diagonal_px == pytest.approx(20 / max(clip.alpha.shape[1:]))
    assert clip.shrunk(1000).alpha.shape == clip.alpha.shape


def test_even_indices_are_evenly_spaced_around_a_circle():
    assert evenly(16, 4).tolist() == [0, 4, 8, 12]
    assert evenly(3, 4).tolist() == [0, 1, 2]
