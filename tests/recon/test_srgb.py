import numpy as np

from recon.srgb import linear_from_srgb, srgb_from_linear


def test_encoding_inverts_decoding():
    values = np.linspace(0, 1, 1001)
    np.testing.assert_allclose(srgb_from_linear(linear_from_srgb(values)), values, atol=1e-6)


def test_known_values_of_the_transfer_function():
    np.testing.assert_allclose(linear_from_srgb(np.array([0, 0.5, 1])), [0, 0.214041, 1], atol=1e-6)
