"""Batches of a training, one after another over the epochs, from any step on.

    step ─▶ pieces of the batch of this process, with the places of their samples in the whole one

An epoch has as many steps as whole batches fit into it, on any number of processes the same ones;
the last `held_out` samples of the pack are in none. What it does not know: what a batch is for.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from torch.utils.data import DataLoader

from generation.training.dataset import GridDataset, TrainingSample
from generation.training.epoch_order import EpochSampler
from generation.training.settings import EngineSettings
from recon.errors import InputError


class Piece(NamedTuple):
    """What goes through the network at once.

    Attributes:
        samples: side by side.
        places: of each in the batch of all processes together.
    """

    samples: TrainingSample
    places: list[int]


class Batches:
    """An endless sequence of batches, each cut in pieces, for one process.

    A damaged sample that is passed over may give way to a held-out one.
    """

    def __init__(
        self, dataset: GridDataset, settings: EngineSettings, rank: int = 0, world_size: int = 1
    ):
        """At the first step.

        Args:
            dataset: all samples, the held-out ones last.
            settings: batch, pieces, seed, held-out samples and workers.
            rank: of this process.
            world_size: how many processes share each batch.

        Raises:
            InputError: the batch cannot be shared, or there are fewer samples than it takes.
        """
        pieces = world_size * settings.accumulate
        if settings.batch % pieces:
            raise InputError(
                f"a batch of {settings.batch} cannot be shared by {world_size} processes with "
                f"{settings.accumulate} pieces each; choose a multiple of {pieces}"
            )
        n = len(dataset) - settings.held_out
        if n < settings.batch:
            raise InputError(
                f"a batch of {settings.batch} and {settings.held_out} held-out samples are more "
                f"than the {len(dataset)} that are packed; choose fewer, or pack more"
            )
        self._rank, self._world_size = rank, world_size
        self._accumulate, self._size = settings.accumulate, settings.batch // pieces
        self._sampler = EpochSampler(n, settings.seed, rank, world_size)
        self._loader = DataLoader(
            dataset,
            self._size,
            sampler=self._sampler,
            num_workers=settings.workers,
            pin_memory=settings.device == "cuda",
            drop_last=True,
            worker_init_fn=_leave_signals_to_the_training,
            persistent_workers=settings.workers > 0,
        )
        self._epoch, self._steps = 0, 0

    def __iter__(self) -> Iterator[list[Piece]]:
        """The pieces of one step after another."""
        while True:
            step_samples = self._size * self._accumulate
            steps = len(self._sampler) // step_samples
            loaded = islice(self._loader, steps * self._accumulate) if steps else iter(())
            for _ in range(steps):
                batches = list(islice(loaded, self._accumulate))
                self._steps += 1
                yield [Piece(batch, self._places(i)) for i, batch in enumerate(batches)]
            self._epoch, self._steps = self._epoch + 1, 0
            self._sampler.set_epoch(self._epoch)

    def state_dict(self) -> dict[str, int]:
        """Where the last batch that was handed out ended, for any number of processes."""
        return self._sampler.state_dict(self._steps * self._size * self._accumulate)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on there, in iterators that begin from now on.

        Raises:
            InputError: it is of another pack or seed.
        """
        self._sampler.load_state_dict(state)
        self._epoch, self._steps = state["epoch"], 0

    def _places(self, piece: int) -> list[int]:
        first = piece * self._size
        return [i * self._world_size + self._rank for i in range(first, first + self._size)]


def _leave_signals_to_the_training(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal; the training tells its workers when to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
