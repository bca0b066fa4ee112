"""The metrics agree with independent computations and with what they must be on simple images."""

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from recon.errors import InputError
from recon.metrics.image import MAX_PSNR, bounding_box, psnr, silhouette_iou, ssim


def noisy(rng, image, sigma=0.1):
    return np.clip(image + sigma * rng.standard_normal(image.shape), 0, 1)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_psnr_agrees_with_skimage_and_is_capped_where_images_are_equal(rng):
    truth = rng.random((9, 7, 3))
    image = noisy(rng, truth)
    assert psnr(image, truth) == pytest.approx(peak_signal_noise_ratio(truth, image, data_range=1))
    assert psnr(truth, truth) == MAX_PSNR
    assert psnr(truth + 1e-9, truth) == MAX_PSNR


def test_psnr_of_a_constant_error_is_its_logarithm():
    truth = np.full((4, 4, 3), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20)


@pytest.mark.parametrize("size", [(11, 11), (12, 40), (64, 48)])
@pytest.mark.parametrize("box", [np.s_[:], np.s_[:1, :1], np.s_[-2:, 3:5], np.s_[5:9, 4:8]])
def test_ssim_agrees_with_skimage_wherever_the_images_differ(rng, size, box):
    truth = rng.random((*size, 3))
    image = truth.copy()
    image[box] = noisy(rng, truth[box])
    expected = structural_similarity(
        truth,
        image,
        data_range=1,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(image, truth) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_equal_images_is_one_and_small_images_are_refused():
    assert ssim(np.ones((11, 11, 3)), np.ones((11, 11, 3))) == 1
    with pytest.raises(InputError, match="11×11"):
        ssim(np.ones((10, 30, 3)), np.ones((10, 30, 3)))


def test_iou_of_shifted_squares_is_the_ratio_of_areas():
    alpha, truth = np.zeros((8, 8)), np.zeros((8, 8))
    alpha[2:6, 2:6], truth[2:6, 4:8] = 0.6, 1
    assert silhouette_iou(alpha, truth) == pytest.approx(8 / 24)
    assert silhouette_iou(alpha, np.zeros((8, 8))) == 0
    assert silhouette_iou(0.4 * truth, np.zeros((8, 8))) == 1


def test_the_box_of_a_mask_is_tight_and_stays_in_the_image():
    mask = np.zeros((6, 8), bool)
    assert bounding_box(mask) is None
    mask[2, 3] = mask[4, 5] = True
    assert bounding_box(mask) == (slice(2, 5), slice(3, 6))
    assert bounding_box(mask, margin=3) == (slice(0, 6), slice(0, 8))
    assert math.prod(mask[bounding_box(mask)].shape) == 9
