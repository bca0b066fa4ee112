"""Images that agree count alike, one that does not counts less."""

import numpy as np
import pytest

from recon.fitting.image_weights import INPUT_VIEW_WEIGHT, MIN_WEIGHT, SLACK, ImageWeights

FRAME = np.repeat([0, 1], 5)


def weights_after(errors: list[float]) -> ImageWeights:
    images = ImageWeights(FRAME)
    images.update(np.arange(len(errors)), np.square(errors))
    return images


def test_without_errors_all_images_have_full_weight():
    assert ImageWeights(FRAME).weights(np.array([0, 3])).tolist() == [1, 1]


def test_images_with_similar_errors_have_full_weight():
    images = weights_after([0.1, 0.12, 0.08, 0.14, 0.1])
    assert images.weights(np.arange(5)).tolist() == [1] * 5


def test_the_weight_falls_with_the_square_of_the_error():
    images = weights_after([0.1, 0.1, 0.1, 0.1, 0.4])
    weights = images.weights(np.arange(5))
    assert weights[:4].tolist() == [1] * 4
    assert float(weights[4]) == pytest.approx((SLACK * 0.1 / 0.4) ** 2)


def test_no_weight_falls_below_the_minimum():
    assert float(
        weights_after([0.1, 0.1, 0.1, 0.1, 50]).weights(np.array([4]))[0]
    ) == pytest.approx(MIN_WEIGHT)


def test_only_images_of_the_same_time_are_compared():
    images = weights_after([0.1] * 5 + [0.4] * 5)
    assert images.weights(np.arange(5, 10)).tolist() == [1] * 5


def test_a_new_error_has_a_weight_of_a_fifth():
    images = weights_after([0.1] * 5)
    images.update(np.array([2]), np.array([0.36]))
    assert images.errors[:3].tolist() == pytest.approx([0.1, 0.1, 0.2])


def test_the_input_view_has_the_largest_weight_whatever_its_error():
    images = ImageWeights(FRAME, is_input=np.arange(10) % 5 == 2)
    assert images.weights(np.arange(5)).tolist() == [1, 1, INPUT_VIEW_WEIGHT, 1, 1]
    images.update(np.arange(5), np.square([0.1, 0.1, 0.9, 0.1, 0.4]))
    weights = images.weights(np.array([2, 4, 0]))
    assert weights[0] == INPUT_VIEW_WEIGHT > 1
    assert weights[1] < 1 == weights[2]
