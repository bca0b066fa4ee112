"""The order of samples in each epoch, shared by ranks, and taken up again in the middle.

Letters: n samples. An epoch visits each once, in an order that depends on seed and epoch alone; up
to `world_size` − 1 of them are left out so that all ranks take equally many steps. What it does not
know: what a sample is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from recon.errors import InputError


class Item(NamedTuple):
    """A sample in an epoch: it has other views and frames in each.

    The epoch travels with the number because workers that live on after an epoch hold a copy of
    the data set that no call from outside reaches.
    """

    epoch: int
    number: int


def epoch_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The numbers from 0 to n − 1 in the order of an epoch, int64, [n]."""
    return np.random.default_rng([seed, epoch]).permutation(n)


class EpochSampler(Sampler[Item]):
    """The items of one rank in one epoch; `set_epoch` goes on to another."""

    def __init__(self, n: int, seed: int = 0, rank: int = 0, world_size: int = 1):
        """At the start of epoch 0.

        Args:
            n: number of samples.
            seed: of all orders.
            rank: of this process, below `world_size`.
            world_size: how many processes share the samples.

        Raises:
            InputError: there are fewer samples than ranks.
        """
        assert 0 <= rank < world_size
        if n < world_size:
            raise InputError(f"{n} samples cannot be shared by {world_size} processes")
        self._n, self._seed, self._rank, self._world_size = n, seed, rank, world_size
        self._epoch = 0
        self._begin = 0  # of all ranks together: how many of the order were used before

    def __iter__(self) -> Iterator[Item]:
        order = epoch_order(self._seed, self._epoch, self._n)[self._begin :]
        for step in range(len(self)):
            yield Item(self._epoch, int(order[step * self._world_size + self._rank]))

    def __len__(self) -> int:
        return (self._n - self._begin) // self._world_size

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of an epoch; to be called between two loops over a loader."""
        self._epoch, self._begin = epoch, 0

    def state_dict(self, used: int) -> dict[str, int]:
        """What `load_state_dict` needs, on any number of ranks.

        Args:
            used: items that this rank has used since its loop began. Training counts them: a loader
                reads ahead, so the sampler has handed out more.
        """
        begin = self._begin + used * self._world_size
        return {"n": self._n, "seed": self._seed, "epoch": self._epoch, "begin": begin}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where another sampler was.

        Raises:
            InputError: that one had other samples or another seed.
        """
        found, expected = (state["n"], state["seed"]), (self._n, self._seed)
        if found != expected:
            raise InputError(
                f"the saved order is of {found[0]} samples and seed {found[1]}, "
                f"this one of {expected[0]} and {expected[1]}; train on the same pack"
            )
        self._epoch, self._begin = state["epoch"], state["begin"]
