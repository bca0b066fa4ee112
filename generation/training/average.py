"""A moving average of weights, and a network that has it for a while.

    average ← d · average + (1 − d) · weights,   d = min(decay, (1 + step) / (10 + step))

The average follows the first steps closely, so that it is not half initialisation for long. Tensors
may be the shards of a distributed network. What it does not know: files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Average:
    """The average of parameters.

    Attributes:
        tensors: by name.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float):
        """Begins as the parameters are.

        Args:
            parameters: by name; they are kept, and read at each update.
            decay: d after many steps, in [0, 1).
        """
        self._parameters, self._decay = parameters, decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes the parameters in, after the step of this number, which counts from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, tensor in self.tensors.items():
            tensor.lerp_(self._parameters[name].detach(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Has the average in the network while the block runs."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, tensor in self.tensors.items():
            parameter = self._parameters[name]
            weights = parameter.detach().clone()
            parameter.copy_(tensor)
            tensor.copy_(weights)
