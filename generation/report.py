"""What `generate.json` records about how a grid was made, and what a dry run reports."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from generation.clip.cropping import Crop
from generation.clip.preparing import SquareClip
from generation.cost import estimate, measured_rate
from generation.networks import working_dtype
from generation.presets import Plan
from generation.settings import GenerateSettings
from generation.weights.model_weights import find_architecture
from generation.weights.store import find_cascade_file, find_model
from recon.errors import WeightsError

FORMAT, VERSION = "fourdvd-generation", 1
PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "numpy")


def generation_report(
    clip: SquareClip,
    settings: GenerateSettings,
    plan: Plan,
    weights: Mapping[str, Path],
    hashes: Mapping[str, str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Collect everything that determined a grid, and what it took.

    Args:
        clip: the input.
        settings: the options.
        plan: the plan they resolved to.
        weights: paths of the weights files by name: of the model, or of the cascade's file.
        hashes: sha256 of each weights file, by the same names.
        seconds: time spent on each phase of the work, by name.

    Returns:
        A JSON object.
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
            "crop": crop_report(clip.crop),
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


def crop_report(crop: Crop) -> dict[str, Any]:
    """Return a crop as a JSON object."""
    return {"centres": crop.centers, "side": crop.side, "half": crop.half}


def peak_memory(device: torch.device) -> int | None:
    """Return the peak memory so far in bytes: of the GPU, or of this process on a CPU.

    None on Windows, which does not report it to Python.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or the architecture of the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def dry_run_report(
    clip: SquareClip,
    plan: Plan,
    settings: GenerateSettings,
    preview: Path,
    weights_folder: Path | None = None,
) -> dict[str, Any]:
    """Collect what a generation would make, its estimated cost and the weights files found.

    Args:
        clip: the input.
        plan: the plan that the options resolved to.
        settings: the options; their device is resolved.
        preview: image of the prepared clip.
        weights_folder: folder to search for weights first.

    Returns:
        A JSON object; the estimate is for the device and for CUDA.
    """
    size, frames = clip.images.shape[1], len(clip.images)
    found = find_files(plan, weights_folder)
    return {
        "model": settings.model.replace("_", "-"),
        "frames": frames,
        "source_frames": list(clip.source_frames),
        "fps": clip.fps,
        "size": size,
        "crop": crop_report(clip.crop),
        "alpha_known": clip.alpha_known,
        "warnings": list(clip.warnings),
        "preview": str(preview),
        "views": 1 + len(plan.azimuths_deg),
        "azimuths_deg": [0.0, *plan.azimuths_deg],
        "elevation_deg": plan.elevation_deg,
        "grids": plan.stage_sizes(size),
        "passes": [window.name for window in plan.windows],
        "steps": plan.total_steps,
        "device": settings.device,
        "estimate": {
            device: _estimate(plan, replace(settings, device=device), size, frames, weights_folder)
            for device in dict.fromkeys((settings.device, "cuda"))
        },
        "weights": {name: None if path is None else str(path) for name, path in found.items()},
        "missing_weights": [name for name, path in found.items() if path is None],
    }


def _estimate(
    plan: Plan,
    settings: GenerateSettings,
    size: int,
    frames: int,
    weights_folder: Path | None = None,
) -> dict[str, Any]:
    """Estimate memory, disk and time as a JSON object; no time for a device that is missing."""
    here = settings.device == "cpu" or torch.cuda.is_available()
    rate = measured_rate(settings.device) if here else float("nan")
    architectures = {name: find_architecture(name, weights_folder) for name in plan.models}
    found = estimate(plan, settings, size, frames, rate, architectures)
    return {
        "memory_bytes": found.device_memory_bytes,
        "disk_bytes": found.disk_bytes,
        "flops": found.flops,
        "seconds": found.seconds if here else None,
    }


def find_files(plan: Plan, weights_folder: Path | None = None) -> dict[str, Path | None]:
    """Find all weights files of a plan by name; None for those that are missing."""

    def found(find: Callable[[], Path]) -> Path | None:
        try:
            return find()
        except WeightsError:
            return None

    models = {
        name.replace("_8views", "-8views"): found(partial(find_model, name, weights_folder))
        for name in plan.models
    }
    return models | {
        name: found(partial(find_cascade_file, name, plan.preset.model, weights_folder))
        for name in plan.cascade_files
    }
