"""The samples that are never trained on: always the same images, with the same random numbers.

What it does not know: what a stage makes of them.
"""

from __future__ import annotations

import torch
from torch.utils.data import default_collate

from generation.training.dataset import GridDataset
from generation.training.draws import Draws
from generation.training.epoch_order import Item
from generation.training.processes import on_device
from generation.training.settings import EngineSettings

DRAWS_STEP = 0  # their draws are those of one step for ever


class HeldOut:
    """The last samples of a pack.

    Attributes:
        samples: side by side, on the device.
    """

    def __init__(self, dataset: GridDataset, settings: EngineSettings, device: torch.device):
        """Reads them.

        Raises:
            ShardError: one is damaged, and the data set does not pass over it.
        """
        numbers = range(len(dataset) - settings.held_out, len(dataset))
        samples = default_collate([dataset[Item(0, number)] for number in numbers])
        self.samples = on_device(samples, device)
        self._seed, self._device = settings.seed, device

    def draws(self) -> Draws:
        """Random numbers for each sample, from their beginning."""
        places = range(len(self.samples.name))
        return Draws(self._seed, DRAWS_STEP, places, self._device)
