"""The moving average is that of its formula, and lends itself to a network for a while."""

import numpy as np
import torch
from torch import nn

from generation.training.average import Average


def test_it_agrees_with_the_formula_in_float64():
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    average = Average({"w": parameter}, decay=0.5)
    expected = np.array([1.0, -2.0])
    for step in range(1, 12):
        with torch.no_grad():
            parameter.add_(torch.tensor([0.3, 0.7]))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameter.detach().double().numpy()
    np.testing.assert_allclose(average.tensors["w"], expected, rtol=1e-6)


def test_a_network_has_it_only_while_the_block_runs_even_if_that_fails():
    parameter = nn.Parameter(torch.zeros(2))
    average = Average({"w": parameter}, decay=0.9)
    average.tensors["w"].fill_(3)
    with average.applied():
        assert parameter.tolist() == [3, 3]
    try:
        with average.applied():
            raise RuntimeError
    except RuntimeError:
        pass
    assert parameter.tolist() == [0, 0]
    assert average.tensors["w"].tolist() == [3, 3]
