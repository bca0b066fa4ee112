"""Baked assets, an image encoder and a configuration with which `lift` trains in seconds."""

from pathlib import Path

import torch
from torch import nn

from generation.curation.figures.asset import FigureAsset
from generation.curation.manifest import MANIFEST_NAME, Row, Status, append_row
from generation.curation.render.baked_asset import write_baked
from generation.curation.render.settings import RenderSettings
from generation.lift.encoder import ImageEncoder
from generation.training.config import EngineConfig
from generation.training.lift_stage import LiftStageConfig
from tests.generation.lift.tiny_network import TINY_LIFT
from tests.generation.models.random_weights import numbers

ANIMALS, FIGURES = ("ant", "bee", "cat", "dog"), ("figure_00000010", "figure_00000011")
TINY = LiftStageConfig(TINY_LIFT, epoch_samples=12)
ENGINE = EngineConfig(
    steps=4, batch_size=4, learning_rate=1e-3, warmup_steps=2, held_out=2, log_every=1,
    eval_every=2, images_every=4, checkpoint_every=3,
)  # fmt: skip
TOML = """
[lift]
epoch_samples = 12
held_out_assets = ["dog"]
[lift.network]
size = 32
widths = [32, 32, 32, 32]
middle_blocks = 1
[lift.engine]
steps = 2
batch_size = 4
held_out = 2
log_every = 1
"""


def write_bakes(folder: Path, animals=ANIMALS, figures=FIGURES) -> Path:
    """Write a folder as `fourdvd data bake` does; the animals are characters, too."""
    for seed, name in enumerate((*animals, *figures)):
        (folder / name).mkdir(parents=True)
        asset = f"/assets/animals/{name}.glb" if name in animals else name
        baked = FigureAsset(seed).bake(RenderSettings(frames=2)).asset
        write_baked(folder / name / "clip_00.npz", baked)
        row = Row(name, Status.BAKED, asset, facts={"baked": ["swing"]})
        append_row(folder / MANIFEST_NAME, row)
    return folder


def write_encoder(path: Path) -> Path:
    """Write an image encoder with random weights in the published format."""
    state = {}
    for name, conv in ImageEncoder().named_modules():
        if isinstance(conv, nn.Conv2d):
            published, norm = _published_names(name)
            state[f"{published}.weight"] = 0.1 * numbers(*conv.weight.shape, seed=len(state))
            for key in ("weight", "bias", "running_mean", "running_var"):
                ones = key in ("weight", "running_var")
                state[f"{norm}.{key}"] = torch.full((conv.out_channels,), float(ones))
    torch.save(state, path)
    return path


def _published_names(name: str) -> tuple[str, str]:
    if name == "stem":
        return "_conv_stem", "_bn0"
    _, stage, index, part = name.split(".")
    block = sum((1, 2, 2, 3, 3)[: int(stage)]) + int(index)
    norm = ("expand", "depthwise", "project").index(part)
    return f"_blocks.{block}._{part}_conv", f"_blocks.{block}._bn{norm}"
