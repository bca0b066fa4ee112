"""Diffusion stages with tiny networks, and helpers to train them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import default_collate

from generation.training.autoencoder import AutoencoderConfig, AutoencoderStage
from generation.training.cascade_stages import CoarseConfig, FineConfig
from generation.training.clip_sampling import SampleRng
from generation.training.config import EngineConfig
from generation.training.dataset import GridDataset, TrainingSample
from generation.training.diffusion_stage import DiffusionStage
from generation.training.engine import train
from generation.training.unet_stages import BaseConfig, BaseStage, ReferenceViewsConfig

ENGINE = EngineConfig(
    steps=2, batch_size=2, learning_rate=2e-3, warmup_steps=1, held_out=2, ema_decay=0.5
)
VAE = AutoencoderConfig(
    patch=2, latent_channels=12, width=8, encoder_blocks=1, decoder_blocks=1, max_stride=2
)
_SEEN: dict[str, Any] = {"max_stride": 1, "eval_grids": 1, "sampler_steps": 2}
_SIZES: dict[str, Any] = {
    **_SEEN,
    "channel_mult": (1, 1),
    "attention_resolutions": (1,),
    "context_dim": 8,
    "image_encoder_side": 8,
    "image_encoder_widths": (32,),
}
ORBIT = ReferenceViewsConfig(views=4, **_SIZES)
BASE = BaseConfig(views=2, frames=3, **_SIZES)
COARSE = CoarseConfig(views=4, frames=3, rank=2, **_SEEN)
FINE = FineConfig(views=2, frames=3, **_SEEN)


@contextmanager
def on_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train_vae(shards: Path, folder: Path) -> Path:
    train(AutoencoderStage(VAE), ENGINE, shards, folder)
    return folder


def train_base(shards: Path, vae: Path, folder: Path) -> Path:
    train(BaseStage(BASE, vae), ENGINE, shards, folder)
    return folder


def batch_of(stage: DiffusionStage, shards: Path, count: int = 2) -> TrainingSample:
    dataset = GridDataset(shards, stage.sampling)
    return default_collate([dataset[number] for number in range(count)])


def losses_on_one_sample(stage: DiffusionStage, shards: Path, steps: int, rate: float):
    """Return the losses while training on a single batch with fixed random numbers."""
    batch = batch_of(stage, shards, 1)
    trained = [each for each in stage.module.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, rate, weight_decay=0.0)
    losses = []
    for _ in range(steps):
        loss = stage.loss(batch, SampleRng(0, 0, [3])).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def changed_by_a_step(stage: DiffusionStage, shards: Path) -> set[str]:
    """Return the names of the parameters that an optimizer step changes."""
    before = {name: each.clone() for name, each in stage.module.state_dict().items()}
    parameters = dict(stage.module.named_parameters())
    stage.loss(batch_of(stage, shards), SampleRng(0, 0, range(2))).loss.backward()
    torch.optim.AdamW(parameters.values(), 1e-3).step()
    for name, each in parameters.items():
        assert each.requires_grad == (each.grad is not None), name
    state = stage.module.state_dict()
    return {name for name, each in state.items() if not torch.equal(each, before[name])}
