import math

import pytest
import torch

from generation.models.embedding import embedding_mlp, sinusoidal_embedding
from tests.generation.models.plain_blocks import linear


@pytest.mark.parametrize("width", [2, 8, 320])
def test_it_is_cos_then_sin_at_frequencies_that_fall_by_powers(width: int):
    values, half = [0.0, 1e-5, 1.5, math.tau, 20.0], width // 2
    found = sinusoidal_embedding(torch.tensor(values), width)
    for row, value in zip(found.tolist(), values, strict=True):
        angles = [value * 10_000 ** (-k / half) for k in range(half)]
        expected = [*map(math.cos, angles), *map(math.sin, angles)]
        assert row == pytest.approx(expected, abs=1e-5)


def test_every_frequency_is_a_point_on_the_unit_circle():
    x, y = sinusoidal_embedding(torch.linspace(-9, 9, 7), 16).chunk(2, -1)
    torch.testing.assert_close(x**2 + y**2, torch.ones(7, 8))


def test_values_of_any_shape_and_type_become_float32_along_a_new_axis():
    for dtype in (torch.int64, torch.float32, torch.float64):
        found = sinusoidal_embedding(torch.ones(2, 3, dtype=dtype), 6)
        assert found.shape == (2, 3, 6)
        assert found.dtype == torch.float32


def test_the_perceptron_is_linear_silu_linear():
    mlp, x = embedding_mlp(3, 5, 2), torch.tensor([[1.0, -2.0, 0.5]])
    inside = linear(mlp[0], x)
    expected = linear(mlp[2], inside / (1 + (-inside).exp()))
    torch.testing.assert_close(mlp(x).double(), expected, rtol=1e-5, atol=1e-6)
