"""FLIP of simple images; skipped where its package is not installed."""

import numpy as np
import pytest

from recon.metrics.flip import Flip
from recon.metrics.interface import ImagePair

pytest.importorskip("flip_evaluator", reason="needs flip-evaluator, of the extra [metrics]")


def flip(image: np.ndarray, truth: np.ndarray) -> float:
    alpha = np.ones(image.shape[:2])
    value = Flip().measure(ImagePair(0, 0, image, alpha, truth, alpha))["flip"]
    assert value is not None
    return value


def test_equal_images_have_0_and_black_against_white_nearly_1():
    truth = np.random.default_rng(0).random((24, 20, 3))
    assert flip(truth, truth) == 0
    assert 0.9 < flip(np.zeros((24, 20, 3)), np.ones((24, 20, 3))) <= 1


def test_a_larger_error_is_larger_and_the_order_of_the_images_does_not_matter():
    rng = np.random.default_rng(0)
    truth = rng.random((24, 20, 3))
    noise = rng.normal(0, 0.1, truth.shape)
    near, far = (np.clip(truth + scale * noise, 0, 1) for scale in (1, 3))
    assert 0 < flip(near, truth) < flip(far, truth)
    assert flip(near, truth) == pytest.approx(flip(truth, near), abs=1e-6)
