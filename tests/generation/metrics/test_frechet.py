"""The Fréchet distance of sets agrees with the formula by matrix roots, and with known cases."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from generation.metrics.frechet import pair_distance, set_distance
from recon.errors import InputError


def test_sets_agree_with_the_root_of_a_matrix():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 5)), rng.normal(0.3, 2, size=(30, 5))
    first, second = (np.cov(each, rowvar=False) for each in (a, b))
    root = np.trace(np.real(sqrtm(first @ second)))
    plain = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * root
    assert set_distance(a, b) == pytest.approx(plain, rel=1e-6)


def test_equal_sets_have_0_also_with_fewer_videos_than_features():
    features = np.random.default_rng(0).normal(size=(4, 400))
    assert set_distance(features, features[::-1]) == pytest.approx(0, abs=1e-9)
    assert set_distance(features, features + 1) == pytest.approx(400)


def test_a_set_needs_two_videos():
    with pytest.raises(InputError, match="at least 2 videos"):
        set_distance(np.zeros((1, 4)), np.zeros((3, 4)))


def test_pairs_have_the_distance_of_the_features_and_of_their_deviations():
    a, b = np.array([0.0, 2.0]), np.array([1.0, 5.0])
    assert pair_distance(a, b) == pytest.approx(1 + 9 + (np.sqrt(2) - np.sqrt(8)) ** 2)
    assert pair_distance(a, a) == 0
