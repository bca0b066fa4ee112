"""Random numbers of a training step that depend on seed, step and place in the batch alone.

A batch may be shared by processes or cut in pieces: each sample keeps its numbers, because each has
a generator of its own, on the CPU, whose numbers are the same on all machines. Letters: B samples.
What it does not know: what the numbers are for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

MANY = 2**20  # numbers from which on several threads draw them: 0.05 s on one
THREADS = 8


class Draws:
    """One sequence of random numbers for each of B samples.

    Calls in another order give other numbers.
    """

    def __init__(
        self, seed: int, step: int, places: Sequence[int], device: torch.device | str = "cpu"
    ):
        """The beginning of the sequences.

        Args:
            seed: of the training.
            step: of the optimiser.
            places: of the B samples in the batch of all processes together.
            device: on which tensors come to lie.
        """
        self.device = torch.device(device)
        self._generators = [_generator(seed, step, place) for place in places]

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32, [B, *shape]."""
        return self._stack(lambda generator: torch.randn(shape, generator=generator), shape)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), float32, [B, *shape]."""
        return self._stack(lambda generator: torch.rand(shape, generator=generator), shape)

    def permutation(self, n: int) -> Tensor:
        """The numbers from 0 to n − 1 in any order, int64, [B, n]."""
        return self._stack(lambda generator: torch.randperm(n, generator=generator), (n,))

    def _stack(self, draw: Callable[[torch.Generator], Tensor], shape: tuple[int, ...]) -> Tensor:
        if len(self) * math.prod(shape) < MANY:
            return torch.stack([draw(each) for each in self._generators]).to(self.device)
        with ThreadPoolExecutor(THREADS) as threads:
            return torch.stack(list(threads.map(draw, self._generators))).to(self.device)


def _generator(seed: int, step: int, place: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, step, place]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
