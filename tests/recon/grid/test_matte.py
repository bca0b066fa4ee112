"""Alpha that is estimated from a plain background agrees with the alpha it was made with."""

import numpy as np
import pytest

from recon.grid.grid import composite
from recon.grid.matte import border_color, matte


def soft_disc(color=(200, 120, 30), size: int = 40) -> np.ndarray:
    """RGBA of a disc whose edge is anti-aliased over one pixel."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    alpha = np.clip(size / 4 + 0.5 - np.hypot(rows - size / 2, columns - size / 2), 0, 1)
    image = np.zeros((size, size, 4), np.uint8)
    image[..., :3], image[..., 3] = color, np.rint(255 * alpha)
    return image


@pytest.mark.parametrize("background", [(1, 1, 1), (0, 0, 0), (0, 0.8, 0.2)])
def test_soft_edges_and_their_colors_are_found(background):
    truth = soft_disc()
    found = matte(composite(truth, background), np.array(background))
    assert np.abs(found[..., 3].astype(int) - truth[..., 3]).max() < 16
    assert (np.abs(found[..., :3].astype(int) - truth[..., :3])[found[..., 3] > 0] < 3).all()


def test_compositing_over_the_background_restores_the_image():
    image = composite(soft_disc(), (1, 1, 1))
    found = composite(matte(image, np.ones(3)), (1, 1, 1))
    assert np.abs(found.astype(int) - image).max() <= 12


def test_white_parts_inside_the_object_stay():
    image = composite(soft_disc(), (1, 1, 1))
    image[17:23, 17:23] = 255
    found = matte(image, np.ones(3))
    assert (found[15:25, 15:25, 3] == 255).all()
    assert (found[17:23, 17:23, :3] == 255).all()


def test_compression_noise_is_tolerated():
    rng = np.random.default_rng(0)
    truth = soft_disc()
    noisy = composite(truth, (1, 1, 1)) + rng.normal(0, 2, (40, 40, 3))
    found = matte(np.clip(noisy, 0, 255).astype(np.uint8), np.ones(3))
    assert np.abs(found[..., 3] / 255.0 - truth[..., 3] / 255.0).mean() < 0.01
    assert (found[:5, :, 3] == 0).all()


def test_the_border_color_is_found_if_the_object_is_cut_off():
    image = np.full((20, 20, 3), (10, 200, 30), np.uint8)
    image[8:, 5:15] = 90
    found = border_color(image[None])
    assert found is not None
    np.testing.assert_allclose(255 * found, [10, 200, 30])


def test_a_busy_border_has_no_color():
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    assert border_color(images) is None


def test_an_object_that_fills_the_image_is_opaque():
    image = np.full((8, 8, 3), 50, np.uint8)
    assert (matte(image, np.ones(3))[..., 3] == 255).all()
