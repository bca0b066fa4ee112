"""What `generate.json` says about how a grid was made."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from generation.clip.preparing import PreparedClip
from generation.networks import working_dtype
from generation.presets import Plan
from generation.settings import GenerateSettings

FORMAT, VERSION = "fourdvd-generation", 1
PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "numpy")


def generation_report(
    clip: PreparedClip,
    settings: GenerateSettings,
    plan: Plan,
    weights: Mapping[str, Path],
    hashes: Mapping[str, str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Everything that decided what came out, and what it took.

    Args:
        clip: the input.
        settings: as chosen.
        plan: what they meant.
        weights: files by the names of their models, and those of the cascade by their own.
        hashes: sha256 of each file.
        seconds: by stage.
    """
    device = torch.device(settings.device)
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": settings.model,
        "weights": {
            name: {"file": weights[name].name, "sha256": sha256} for name, sha256 in hashes.items()
        },
        "seed": settings.seed,
        "steps": plan.steps,
        "settings": asdict(settings),
        "dtype": str(working_dtype(settings)).removeprefix("torch."),
        "azimuths_deg": [0.0, *plan.azimuths_deg],
        "elevation_deg": plan.elevation_deg,
        "passes": [asdict(each) for each in plan.windows],
        "input": {
            "frames": list(clip.source_frames),
            "fps": clip.fps,
            "alpha_known": clip.alpha_known,
            "crop": clip.crop._asdict(),
            "warnings": list(clip.warnings),
        },
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "peak_memory_bytes": peak_memory(device),
        "device": device_name(device),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
    }


def peak_memory(device: torch.device) -> int:
    """Most memory that was used so far, in bytes: the device's, or this process's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_name(device: torch.device) -> str:
    """For people who compare times."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
