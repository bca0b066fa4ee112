"""A stage that trains in milliseconds: a linear map of mean colors and noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from generation.training.clip_sampling import SampleRng, SamplingConfig
from generation.training.config import EngineConfig
from generation.training.dataset import GridStage, TrainingSample, composite_on_white
from generation.training.optimization import StageLoss

SETTINGS = EngineConfig(
    steps=6, batch_size=2, learning_rate=0.05, warmup_steps=2, held_out=2, log_every=1,
    eval_every=4, images_every=4, checkpoint_every=3,
)  # fmt: skip


@dataclass
class ToyStage(GridStage):
    """The stage.

    Attributes:
        name: of any stage.
        width: numbers that the map makes.
        diverges_at: number of the call whose loss is not finite.
        samples: of the last call.
    """

    name: str = "base"
    width: int = 3
    diverges_at: int | None = None

    def __post_init__(self):
        self.module = nn.Linear(3, self.width)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.module.add_module("frozen", self.frozen)
        with torch.no_grad():
            self.module.weight.copy_(torch.arange(3.0 * self.width).view(self.width, 3) / 10)
            self.module.bias.zero_()
        self.sampling = SamplingConfig(views=2, frames=2, random_reference=True)
        self.calls = self.samples = 0

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"width": self.width}

    def loss(self, batch: TrainingSample, rng: SampleRng) -> StageLoss:
        self.calls += 1
        self.samples = len(batch.name)
        colors = _mean_colors(batch)
        error = self.module(colors + 0.3 * rng.normal(3)) - colors.mean(1, keepdim=True)
        loss = error.square().mean()
        if self.calls == self.diverges_at:
            loss = loss * torch.nan
        return StageLoss(loss, {"error": error.abs().mean()})

    def evaluate(self, samples: TrainingSample, rng: SampleRng) -> dict[str, float]:
        return {"mean": float(self.module(_mean_colors(samples) + rng.normal(3)).mean())}

    def images(self, samples: TrainingSample, rng: SampleRng) -> np.ndarray:
        return np.full((4, 6, 3), 7, np.uint8)

    def save(
        self,
        folder: Path,
        weights: Mapping[str, Tensor],
        samples: TrainingSample,
        dtype: torch.dtype,
    ) -> None:
        whole = {name: tensor.to(dtype) for name, tensor in weights.items()}
        save_file(whole, folder / "toy.safetensors")


def _mean_colors(batch: TrainingSample) -> Tensor:
    return composite_on_white(batch.target["low"]).rgb.mean((1, 2, 4, 5))
