import numpy as np

from recon.quantization import quantized_weights

WEIGHTS = np.random.default_rng(0).random((50, 8)) ** 4


def test_rows_sum_to_the_total():
    for total in (255, 65535):
        levels = quantized_weights(WEIGHTS, total)
        assert (levels >= 0).all()
        assert (levels.sum(axis=1) == total).all()


def test_no_weight_is_off_by_more_than_a_level():
    levels = quantized_weights(WEIGHTS, 255)
    exact = WEIGHTS / WEIGHTS.sum(axis=1, keepdims=True)
    assert np.abs(levels / 255 - exact).max() < 1 / 255


def test_a_weight_of_zero_stays_zero():
    assert (quantized_weights(np.array([[1.0, 0.0, 2.0]]), 255) == [[85, 0, 170]]).all()
