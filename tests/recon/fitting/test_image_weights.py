"""Images that agree count alike, one that does not counts less."""

import numpy as np
import pytest
import torch

from recon.fitting.image_weights import FILMED, LEAST, SLACK, ImageTrust

FRAME = np.repeat([0, 1], 5)


def trust_after(errors: list[float]) -> ImageTrust:
    trust = ImageTrust(FRAME)
    trust.note(np.arange(len(errors)), torch.tensor(errors).square())
    return trust


def test_before_anything_is_known_all_count_alike():
    assert ImageTrust(FRAME).weights(np.array([0, 3])).tolist() == [1, 1]


def test_images_whose_errors_differ_a_little_count_alike():
    trust = trust_after([0.1, 0.12, 0.08, 0.14, 0.1])
    assert trust.weights(np.arange(5)).tolist() == [1] * 5


def test_an_image_that_is_worse_than_the_others_counts_less_with_the_square_of_its_error():
    trust = trust_after([0.1, 0.1, 0.1, 0.1, 0.4])
    weights = trust.weights(np.arange(5))
    assert weights[:4].tolist() == [1] * 4
    assert float(weights[4]) == pytest.approx((SLACK * 0.1 / 0.4) ** 2)


def test_no_image_is_forgotten():
    assert float(trust_after([0.1, 0.1, 0.1, 0.1, 50]).weights(np.array([4]))[0]) == pytest.approx(
        LEAST
    )


def test_only_images_of_the_same_time_are_compared():
    trust = trust_after([0.1] * 5 + [0.4] * 5)
    assert trust.weights(np.arange(5, 10)).tolist() == [1] * 5


def test_a_new_error_moves_the_old_one_by_a_fifth():
    trust = trust_after([0.1] * 5)
    trust.note(np.array([2]), torch.tensor([0.36]))
    assert trust.errors[:3].tolist() == pytest.approx([0.1, 0.1, 0.2])


def test_what_was_filmed_counts_most_whatever_the_others_agree_on():
    trust = ImageTrust(FRAME, filmed=np.arange(10) % 5 == 2)
    assert trust.weights(np.arange(5)).tolist() == [1, 1, FILMED, 1, 1]
    trust.note(np.arange(5), torch.tensor([0.1, 0.1, 0.9, 0.1, 0.4]).square())
    weights = trust.weights(np.array([2, 4, 0]))
    assert weights[0] == FILMED > 1
    assert weights[1] < 1 == weights[2]
