import numpy as np
from scipy import ndimage

from generation.curation.filters.image_quality import NO_OBJECT, ImageQuality, measure_quality
from generation.curation.filters.thresholds import Thresholds
from recon.grid import Grid
from tests.generation.curation.filters.discs import altered, clips, steady, textured_disc

LIMITS = Thresholds()


def measured(grid: Grid) -> ImageQuality:
    return measure_quality(clips(grid))


def passes(quality: ImageQuality) -> bool:
    assert LIMITS.min_coverage and LIMITS.min_sharpness and LIMITS.max_clutter and LIMITS.max_grain
    return (
        quality.coverage >= LIMITS.min_coverage
        and quality.sharpness >= LIMITS.min_sharpness
        and quality.clutter <= LIMITS.max_clutter
        and quality.grain <= LIMITS.max_grain
    )


def flat(color: int):
    def paint(images: np.ndarray) -> np.ndarray:
        images[..., :3] = color
        return images

    return paint


def blurred(images: np.ndarray) -> np.ndarray:
    alpha = images[..., 3:] / 255
    sigma = (0, 5, 5, 0)
    soft = ndimage.gaussian_filter(alpha, sigma)
    color = ndimage.gaussian_filter(images[..., :3] * alpha, sigma) / np.maximum(soft, 1e-6)
    return np.concatenate([color.clip(0, 255), 255 * soft], axis=-1).astype(np.uint8)


def test_textured_and_flat_objects_pass_the_thresholds_in_any_color():
    grid = textured_disc(steady())
    assert passes(measured(grid))
    for color in (0, 128, 255):
        assert passes(measured(altered(grid, flat(color))))


def test_a_blurred_object_is_below_the_sharpness_threshold():
    quality = measured(altered(textured_disc(steady()), blurred))
    assert LIMITS.min_sharpness is not None
    assert quality.sharpness < LIMITS.min_sharpness


def test_noise_inside_an_object_is_grain():
    def noisy(images: np.ndarray) -> np.ndarray:
        images[..., :3] = np.random.default_rng(0).integers(0, 256, images[..., :3].shape)
        return images

    quality = measured(altered(textured_disc(steady()), noisy))
    assert LIMITS.max_grain is not None
    assert quality.grain > 2 * LIMITS.max_grain
    assert measured(textured_disc(steady())).grain < LIMITS.max_grain / 4


def test_scattered_pixels_are_clutter():
    def scattered(images: np.ndarray) -> np.ndarray:
        kept = np.random.default_rng(0).random((*images.shape[:3], 1)) < 0.4
        images[..., :3] = 0
        return images * kept

    quality = measured(altered(textured_disc(steady()), scattered))
    assert LIMITS.max_clutter is not None
    assert quality.clutter > LIMITS.max_clutter


def test_coverage_is_0_if_the_object_is_invisible_in_a_frame():
    grid = textured_disc(steady())

    def without_third_frame(images: np.ndarray) -> np.ndarray:
        images[grid.frame == 2] = 0
        return images

    assert measured(altered(grid, without_third_frame)).coverage == 0


def test_an_empty_grid_has_scores():
    assert measured(altered(textured_disc(steady()), np.zeros_like)) == NO_OBJECT


def test_a_cropped_object_is_cut_off():
    path = [(48.0, 90.0)] * 4
    assert measured(textured_disc(path)).cut_off == 1
    assert measured(textured_disc(steady())).cut_off == 0
