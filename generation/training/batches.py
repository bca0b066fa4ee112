"""Order and batches of training samples, resumable at any step.

    step ─▶ this process's micro-batches, with the position of each sample in the whole batch

An epoch visits the samples in an order that depends only on seed and epoch. It has as many steps as
complete batches, whatever the number of processes. The last `held_out` samples of the data set are
for evaluation and in no batch.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Generic, NamedTuple, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from generation.training.clip_sampling import SampleRng
from generation.training.config import EngineConfig
from generation.training.processes import on_device
from generation.training.samples import AnySamples, Item, SampleSet
from recon.errors import InputError

HELD_OUT_STEP = 0  # the step that seeds the random numbers of the held-out samples


def epoch_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the order of n samples in an epoch, int64, [n]."""
    return np.random.default_rng([seed, epoch]).permutation(n)


class EpochSampler(Sampler[Item]):
    """Sampler of the items of one process in one epoch.

    Up to `world_size` − 1 items are left out so that all processes make the same number of steps.
    """

    def __init__(self, n: int, seed: int = 0, rank: int = 0, world_size: int = 1):
        """Begin at the start of epoch 0.

        Args:
            n: number of items.
            seed: seed of all orders.
            rank: index of this process, below `world_size`.
            world_size: number of processes that share the samples.

        Raises:
            InputError: there are fewer samples than processes.
        """
        assert 0 <= rank < world_size
        if n < world_size:
            raise InputError(
                f"expected at least one sample for each of {world_size} processes, found {n}"
            )
        self._n, self._seed, self._rank, self._world_size = n, seed, rank, world_size
        self._epoch = 0
        self._begin = 0  # items of the epoch that all processes together have used before

    def __iter__(self) -> Iterator[Item]:
        order = epoch_order(self._seed, self._epoch, self._n)[self._begin :]
        for step in range(len(self)):
            yield Item(self._epoch, int(order[step * self._world_size + self._rank]))

    def __len__(self) -> int:
        return (self._n - self._begin) // self._world_size

    def set_epoch(self, epoch: int) -> None:
        """Move to the start of an epoch; called between two loops over a loader."""
        self._epoch, self._begin = epoch, 0

    def state_dict(self, used: int) -> dict[str, int]:
        """Return the state for `load_state_dict`, which may run on another number of processes.

        Args:
            used: number of items that this process has used since its loop began. The training
                counts them, because a prefetching loader has taken more from the sampler.
        """
        begin = self._begin + used * self._world_size
        return {"n": self._n, "seed": self._seed, "epoch": self._epoch, "begin": begin}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            InputError: the state belongs to other samples or another seed.
        """
        found, expected = (state["n"], state["seed"]), (self._n, self._seed)
        if found != expected:
            raise InputError(
                f"expected a saved order of {expected[0]} samples and seed {expected[1]}, found "
                f"{found[0]} samples and seed {found[1]}; train on the same data"
            )
        self._epoch, self._begin = state["epoch"], state["begin"]


class MicroBatch(NamedTuple, Generic[AnySamples]):
    """Samples that pass through the network together.

    Attributes:
        samples: the collated samples.
        positions: position of each sample in the batch of all processes.
    """

    samples: AnySamples
    positions: list[int]


class Batches(Generic[AnySamples]):
    """An endless sequence of batches for one process, each split into micro-batches.

    A damaged sample that is skipped may be replaced by a held-out one.
    """

    def __init__(
        self,
        dataset: SampleSet[AnySamples],
        config: EngineConfig,
        rank: int = 0,
        world_size: int = 1,
    ):
        """Begin at the first step.

        Args:
            dataset: all items, the held-out ones last.
            config: batch size, accumulation steps, seed, held-out samples and workers.
            rank: index of this process.
            world_size: number of processes that share each batch.

        Raises:
            InputError: the batch is not divisible, or larger than the data set.
        """
        together = dataset.samples_per_item
        parts = world_size * config.grad_accum_steps * together
        if config.batch_size % parts:
            groups = f" × {together} samples drawn together" if together > 1 else ""
            raise InputError(
                f"expected a batch size divisible by {world_size} processes × "
                f"{config.grad_accum_steps} accumulation steps{groups}, found {config.batch_size}; "
                f"choose a multiple of {parts}"
            )
        n = len(dataset) - config.held_out
        if n * together < config.batch_size:
            raise InputError(
                f"expected at least {config.batch_size + config.held_out} samples for a batch of "
                f"{config.batch_size} and {config.held_out} held-out samples, found "
                f"{max(n, 0) * together + config.held_out}; use more data, or lower --batch-size, "
                "or held_out in the configuration"
            )
        self._rank, self._world_size = rank, world_size
        self._parts, self._size = config.grad_accum_steps, config.batch_size // parts  # in items
        self._together = together
        self._sampler = EpochSampler(n, config.seed, rank, world_size)
        self._loader = DataLoader(
            cast("Dataset[Any]", dataset),
            self._size,
            sampler=self._sampler,
            num_workers=config.num_workers,
            collate_fn=dataset.collate,
            pin_memory=config.device == "cuda",
            drop_last=True,
            worker_init_fn=_ignore_signals,
            persistent_workers=config.num_workers > 0,
        )
        self._epoch, self._steps = 0, 0

    def __iter__(self) -> Iterator[list[MicroBatch[AnySamples]]]:
        """Yield the micro-batches of one step after another."""
        while True:
            steps = len(self._sampler) // (self._size * self._parts)
            loaded = islice(self._loader, steps * self._parts) if steps else iter(())
            for _ in range(steps):
                batches = list(islice(loaded, self._parts))
                self._steps += 1
                yield [MicroBatch(batch, self._positions(i)) for i, batch in enumerate(batches)]
            self._epoch, self._steps = self._epoch + 1, 0
            self._sampler.set_epoch(self._epoch)

    def state_dict(self) -> dict[str, int]:
        """Return the state after the last yielded batch, for any number of processes."""
        return self._sampler.state_dict(self._steps * self._size * self._parts)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state; affects iterators that are created afterwards.

        Raises:
            InputError: the state belongs to other samples or another seed.
        """
        self._sampler.load_state_dict(state)
        self._epoch, self._steps = state["epoch"], 0

    def _positions(self, part: int) -> list[int]:
        items = range(part * self._size, (part + 1) * self._size)
        places = [item * self._world_size + self._rank for item in items]
        return [place * self._together + k for place in places for k in range(self._together)]


class HeldOut(Generic[AnySamples]):
    """Held-out samples for evaluation, always with the same images and random numbers.

    Attributes:
        samples: the collated samples on the device.
    """

    samples: AnySamples

    def __init__(self, dataset: SampleSet[AnySamples], config: EngineConfig, device: torch.device):
        """Read the last items of a data set.

        Raises:
            ShardError: one is damaged, and the data set does not skip damaged samples.
        """
        numbers = range(len(dataset) - config.held_out, len(dataset))
        samples = dataset.collate([dataset[Item(0, number)] for number in numbers])
        self.samples = on_device(samples, device)
        self._seed, self._device = config.seed, device

    def rng(self) -> SampleRng:
        """Return newly seeded random number generators, one for each sample."""
        positions = range(len(self.samples.name))
        return SampleRng(self._seed, HELD_OUT_STEP, positions, self._device)


def _ignore_signals(worker: int) -> None:
    """Ignore Ctrl-C, which reaches all processes of a terminal; the training stops its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
