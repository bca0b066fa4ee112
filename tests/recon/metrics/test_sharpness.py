"""Blur lowers sharpness, noise raises it, equal images have 1."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from recon.metrics.interface import ImagePair
from recon.metrics.sharpness import Sharpness


def sharpness(image: np.ndarray, truth: np.ndarray) -> float | None:
    alpha = np.ones(image.shape[:2])
    return Sharpness().measure(ImagePair(0, 0, image, alpha, truth, alpha))["sharpness"]


def test_blur_lowers_it_and_noise_raises_it():
    rng = np.random.default_rng(0)
    truth = gaussian_filter(rng.random((32, 32, 3)), (1, 1, 0))
    assert sharpness(truth, truth) == 1
    assert (sharpness(gaussian_filter(truth, (2, 2, 0)), truth) or 0) < 0.6
    assert (sharpness(truth + rng.normal(0, 0.1, truth.shape), truth) or 0) > 1.2


def test_it_is_the_mean_of_differences_of_neighbors():
    truth, image = np.zeros((2, 2, 3)), np.zeros((2, 2, 3))
    truth[0, 0] = 1
    image[0, 0] = 0.25
    assert sharpness(image, truth) == pytest.approx(0.25)


def test_a_uniform_truth_has_none():
    assert sharpness(np.zeros((4, 4, 3)), np.ones((4, 4, 3))) is None
