"""What the engine asks of whatever is trained: one stage of the cascade.

    batch, draws ─▶ stage.loss ─▶ StageLoss         every step, with gradients
    held-out samples ─▶ stage.score, stage.pictures, stage.save    with the averaged weights

A stage owns its network and says what of it is trained: parameters that need gradients are, and
only they are saved in checkpoints. Random numbers come from `draws` alone, so that a training is
the same on any number of processes. What it does not know: optimisers, processes, files of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from generation.training.dataset import TrainingSample
from generation.training.draws import Draws
from generation.training.training_choice import Selection


class StageLoss(NamedTuple):
    """What is minimised.

    Attributes:
        loss: mean over the samples of the batch, so that batches of processes can be averaged, [].
        parts: of it, for the log, each [].
    """

    loss: Tensor
    parts: dict[str, Tensor]


class Stage(Protocol):
    """One network's training; the engine knows nothing else of it."""

    @property
    def name(self) -> str:
        """As `settings.STAGES` has it."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that its loss depends on, as JSON has it; a checkpoint with other ones is refused."""
        ...

    @property
    def selection(self) -> Selection:
        """What it sees of each grid."""
        ...

    @property
    def module(self) -> nn.Module:
        """The network, whose parameters that need gradients all have some in each step.

        Frozen networks that serve it are submodules, too: the engine moves the module to the
        device, and sets it to training and evaluation.
        """
        ...

    def loss(self, batch: TrainingSample, draws: Draws) -> StageLoss:
        """Of a batch on the module's device.

        Args:
            batch: samples side by side, B of them.
            draws: random numbers for each of them.
        """
        ...

    def score(self, samples: TrainingSample, draws: Draws) -> dict[str, float]:
        """How good the network is on held-out samples, by name; the same draws each time."""
        ...

    def pictures(self, samples: TrainingSample, draws: Draws) -> np.ndarray:
        """What it makes of them, for people: uint8 RGB, [H, W, 3]."""
        ...

    def save(
        self,
        folder: Path,
        weights: Mapping[str, Tensor],
        samples: TrainingSample,
        dtype: torch.dtype,
    ) -> None:
        """Writes what others load of it.

        Args:
            folder: an empty one.
            weights: that were trained, by name, whole; the module itself may be spread over
                processes.
            samples: held-out ones, for what is measured at the end.
            dtype: of the weights in the file.
        """
        ...
