"""Alpha that is estimated from a plain background agrees with the alpha it was made with."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from recon.grid.grid import composite
from recon.grid.matte import border_color, matte
from recon.media import read_image

GAPS = Path(__file__).parent / "gaps"
SIZE = 96
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2


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


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def similarity(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the intersection over union of two masks."""
    return (found & truth).sum() / (found | truth).sum()


def soft_shape(radius_px: np.ndarray | float, distance: np.ndarray) -> np.ndarray:
    """Return the coverage of a shape with an edge of one pixel, [H, W]."""
    return np.clip(radius_px + 0.5 - distance, 0, 1)


def ring(background, blur_px: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw a ring over a background; also return its true coverage."""
    distance = np.hypot(ROWS, COLUMNS)
    alpha = soft_shape(36, distance) - soft_shape(14, distance)
    if blur_px:
        alpha = ndimage.gaussian_filter(alpha, blur_px)
    color = 255 * np.array(background)
    image = color + alpha[..., None] * (np.array((60, 110, 180)) - color)
    return np.rint(image).astype(np.uint8), alpha


@pytest.mark.parametrize("background", [(1, 1, 1), (0, 0, 0), (0, 0.8, 0.2), (0.5, 0.5, 0.5)])
@pytest.mark.parametrize(("blur_px", "quality"), [(0, None), (1, None), (1, 80)])
def test_enclosed_background_is_transparent(background, blur_px, quality):
    image, truth = ring(background, blur_px)
    image = image if quality is None else as_jpeg(image, quality)
    found = matte(image, np.array(background))[..., 3]
    assert found[SIZE // 2, SIZE // 2] == 0
    assert similarity(found > 127, truth > 0.5) > 0.95


@pytest.mark.parametrize("quality", [None, 60])
def test_the_gaps_of_a_render_are_transparent(quality):
    rgba = read_image(GAPS / "robot.png")
    image = composite(rgba)
    image = image if quality is None else as_jpeg(image, quality)
    found, truth = matte(image, np.ones(3))[..., 3] > 127, rgba[..., 3] > 127
    assert similarity(found, truth) > (0.99 if quality is None else 0.96)
    assert (
        similarity(np.asarray(ndimage.binary_fill_holes(found)), truth) < 0.95
    )  # as with opaque gaps


@pytest.mark.parametrize("quality", [None, 85])
def test_a_white_face_and_white_highlights_of_a_render_stay(quality):
    rgba = read_image(GAPS / "gdbot.png")
    image = composite(rgba)
    image = image if quality is None else as_jpeg(image, quality)
    inside = np.asarray(ndimage.distance_transform_edt(rgba[..., 3] > 127)) > 4
    assert (matte(image, np.ones(3))[inside][:, 3] == 255).all()


def with_white(coverage: np.ndarray) -> np.ndarray:
    """Draw a disc with a white part over white."""
    disc = composite(soft_disc((60, 110, 180), SIZE))
    return np.rint(disc + coverage[..., None] * (255.0 - disc)).astype(np.uint8)


def test_the_white_of_an_eye_stays():
    distance = np.hypot(ROWS, COLUMNS)
    eye = soft_shape(12, distance) - soft_shape(4, distance)
    found = matte(with_white(eye), np.ones(3))
    assert (found[distance < 20][:, 3] == 255).all()


def test_a_highlight_that_fades_out_stays():
    distance = np.hypot(ROWS, COLUMNS)
    found = matte(with_white(np.clip((20 - distance) / 14, 0, 1)), np.ones(3))
    assert (found[distance < 20][:, 3] == 255).all()


def test_a_shaded_white_shirt_stays():
    shirt = soft_shape(14, np.maximum(np.abs(ROWS), np.abs(COLUMNS)))
    shade = 1 - 0.12 * (COLUMNS.clip(-14, 14) + 14) / 28  # from pure white to 225 of 255
    image = np.rint(with_white(shirt) * np.where(shirt > 0, shade, 1)[..., None]).astype(np.uint8)
    found = matte(image, np.ones(3))
    assert (found[np.hypot(ROWS, COLUMNS) < 20][:, 3] == 255).all()


def test_white_in_the_lines_of_a_drawing_stays():
    distance = np.hypot(ROWS, COLUMNS)
    line = soft_shape(40, distance) - soft_shape(37, distance)
    image = np.rint(255 * (1 - line))[..., None].repeat(3, axis=-1).astype(np.uint8)
    assert (matte(image, np.ones(3))[distance < 39][:, 3] == 255).all()


def test_dust_of_the_background_color_in_the_object_stays():
    image = composite(soft_disc((60, 110, 180), SIZE))
    image[47:49, 47:50] = 255
    assert (matte(image, np.ones(3))[40:56, 40:56, 3] == 255).all()
