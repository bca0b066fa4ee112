"""What the training loop knows of its samples, whatever they show.

(epoch, number) ──SampleSet──▶ item of one or more samples ──collate──▶ Samples
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar


class Item(NamedTuple):
    """Index of an item in an epoch; every epoch shows its items in another way.

    The epoch is part of the index because persistent workers hold copies of the data set, which a
    method call on the original does not change.
    """

    epoch: int
    number: int


class Samples(Protocol):
    """Collated samples: a NamedTuple of tensors with the samples as their first dimension."""

    @property
    def name(self) -> Sequence[str]:
        """Name of each sample."""
        ...

    @property
    def replaced(self) -> Any:
        """Number of damaged samples that were skipped for each one, a tensor [B]."""
        ...


AnySamples = TypeVar("AnySamples", bound=Samples)
Collated = TypeVar("Collated", bound=Samples, covariant=True)


class SampleSet(Protocol[Collated]):
    """The items of an epoch, the held-out ones last.

    An item depends only on seed, epoch and number, not on workers, batches or earlier items.
    """

    @property
    def samples_per_item(self) -> int:
        """Number of samples of each item for training; a held-out item is one sample."""
        ...

    @property
    def folders(self) -> list[Path]:
        """The folders of the data, as given."""
        ...

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def __getitem__(self, item: Item) -> Any:
        """Read or draw an item."""
        ...

    def collate(self, items: Sequence[Any]) -> Collated:
        """Join items to a batch."""
        ...
