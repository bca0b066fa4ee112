"""Measure time and memory of the full-size cascade: 21 frames to 16 views of each.

    python -m tests.benchmarks.full_cascade [--size 576] [--low-memory]

All networks have their full width and random weights, which take as long as trained ones. On a
CPU, `--channels 32 --size 64 --frames 5 --steps 1` shows with tiny networks that it runs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig

from generation.clip.preparing import SquareClip
from generation.diffusion_pipeline import DiffusionPipeline
from generation.models.image_encoders import CLIPImageEncoder
from generation.models.lora import add_lora, lora_settings, lora_state
from generation.models.structure_branch import build_branch
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import UNetConfig
from generation.models.vae import VAEConfig, VAEDecoder, VAEEncoder
from generation.networks import Networks
from generation.presets import make_plan
from generation.settings import GenerateSettings
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE
from generation.weights.files import save_weights
from generation.weights.model_weights import PublishedWeights, find_architecture
from recon.progress import OnStep, ignore_progress
from tests.benchmarks import harness
from tests.generation.tiny_networks import TINY_TOWER, TINY_VAE, tiny_clip, tiny_weights

RANK = 16
CHANNELS = 320  # of the published UNets at the first level


def main(arguments: Sequence[str] | None = None) -> None:
    on_cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.full_cascade")
    parser.add_argument("--size", type=int, default=576, help="default: %(default)s")
    parser.add_argument("--frames", type=int, default=21, help="default: %(default)s")
    parser.add_argument("--steps", type=int, help="denoising steps per window")
    parser.add_argument("--channels", type=int, default=CHANNELS, help="default: %(default)s")
    parser.add_argument("--low-memory", action="store_true")
    harness.add_options(parser, "full-cascade")
    options = parser.parse_args(arguments)
    settings = GenerateSettings(
        "4dvd", steps=options.steps, device="cuda" if on_cuda else "cpu",
        low_memory=options.low_memory, size=options.size,
    )  # fmt: skip
    clip = tiny_clip(options.frames, options.size)
    report = measured(clip, settings, options.channels)
    parts: dict[str, float] = report["seconds"]
    loading = sum(seconds for part, seconds in parts.items() if part.endswith("load"))
    rows = [[part, f"{seconds:.1f}"] for part, seconds in parts.items()]
    rows.append(["all but loading", f"{sum(parts.values()) - loading:.1f}"])
    body = harness.table(["part", "s"], rows)
    memory = f"peak memory {report['peak_memory_bytes'] / 1e9:.1f} GB"
    machine = harness.describe_machine(settings.device)
    note = f"16 × {options.frames} at {options.size}², {memory}. {machine}"
    harness.publish(options.section, f"{body}\n\n{note}", options.page)


def measured(
    clip: SquareClip, settings: GenerateSettings, channels: int, on_step: OnStep = ignore_progress
) -> dict[str, Any]:
    """Generate with networks of random weights and return the report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        needed = make_plan(settings, len(clip.images)).models
        weights = {
            name: RandomWeights(file.path, file.model, file.verification, channels)
            for name, file in tiny_weights(folder, *needed).items()
        }
        trained = write_trained(folder, weights["sv4d"].sha256, settings.device, channels)
        return (
            DiffusionPipeline(settings, weights, trained, False)
            .generate(clip, folder / "grid", on_step=on_step)
            .report
        )


@dataclass(frozen=True)
class RandomWeights(PublishedWeights):
    """Weights of random networks with the given number of channels at the first level."""

    channels: int

    def load(self, device: torch.device, dtype: torch.dtype, low_memory: bool = False) -> Networks:
        """Build the networks."""
        config = of_width(self.architecture.unet, self.channels)
        return random_networks(config, device, dtype, low_memory)


def of_width(config: UNetConfig, channels: int) -> UNetConfig:
    """Change the number of channels at the first level of a network."""
    head = min(channels, config.num_head_channels)
    return replace(config, model_channels=channels, num_head_channels=head)


def random_networks(
    config: UNetConfig, device: torch.device, dtype: torch.dtype, low_memory: bool = False
) -> Networks:
    """Build all networks that a published file holds; all are tiny beside a narrow UNet."""
    home = torch.device("cpu") if low_memory else device
    is_full = config.model_channels == CHANNELS
    vae, clip = (VAEConfig(), None) if is_full else (TINY_VAE, tiny_tower(config.context_dim))
    with home:
        unet = (SV4DUNet if isinstance(config, SV4DConfig) else SV3DUNet)(config)  # type: ignore[arg-type]
        parts = [VAEEncoder(vae), VAEEncoder(vae), VAEDecoder(vae)]
        tower = CLIPImageEncoder(clip)
    for module in (unet, *parts, tower):
        module.eval().requires_grad_(False)
    unet.to(dtype)
    tower.to(dtype)
    if device.type == "cuda":
        unet.to_channels_last()
    return Networks(unet, *parts, tower, device, low_memory)  # type: ignore[arg-type]


def tiny_tower(tokens: int) -> CLIPVisionConfig:
    """Return the configuration of a tiny image encoder whose tokens have this width."""
    return CLIPVisionConfig.from_dict(TINY_TOWER.to_dict() | {"projection_dim": tokens})


def write_trained(folder: Path, base: str, device: str, channels: int) -> dict[str, Path]:
    """Write an untrained LoRA and an untrained branch."""
    config = of_width(find_architecture("sv4d").unet, channels)
    assert isinstance(config, SV4DConfig)
    with torch.device(device):
        branch = build_branch("layerwise", config)
        unet = SV4DUNet(config)
        add_lora(unet, RANK, float(RANK))
    requires = {"base": base}
    save_weights(folder / BRANCH_FILE, branch.settings, branch.state_dict(), requires)
    save_weights(folder / LORA_FILE, lora_settings(unet), lora_state(unet), requires)
    return {file: folder / file for file in (LORA_FILE, BRANCH_FILE)}


if __name__ == "__main__":
    main()
