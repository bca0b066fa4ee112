"""What `generate.json` records about how a grid was made, and what a dry run reports."""

from __future__ import annotations

import importlib.metadata
import math
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from generation.clip.cropping import Crop
from generation.clip.preparing import SquareClip
from generation.cost import Estimate
from generation.plan import Plan
from generation.settings import GenerateSettings

FORMAT, VERSION = "fourdvd-generation", 1
PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "numpy")


def generation_report(
    clip: SquareClip,
    settings: GenerateSettings,
    plan: Plan,
    files: Mapping[str, Mapping[str, str]],
    facts: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Collect everything that determined a grid, and what it took.

    Args:
        clip: the input.
        settings: the options.
        plan: the plan they resolved to.
        files: name and sha256 of each weights file, by the name of the model or the cascade's file.
        facts: what the model adds.
        seconds: time spent on each phase of the work, by name.

    Returns:
        A JSON object.
    """
    device = torch.device(settings.device)
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": settings.model,
        "weights": dict(files),
        "seed": settings.seed,
        "settings": asdict(settings),
        "azimuths_deg": [0.0, *plan.azimuths_deg],
        "elevation_deg": plan.elevation_deg,
        **facts,
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
    preview: Path | None,
    work: Mapping[str, Any],
    estimates: Mapping[str, Estimate],
    files: Mapping[str, Path | None],
) -> dict[str, Any]:
    """Collect what a generation would make, its estimated cost and the weights files found.

    Args:
        clip: the input.
        plan: the plan that the options resolved to.
        settings: the options; their device is resolved.
        preview: image of the prepared clip; None: it was not written.
        work: what the model says about the work to be done.
        estimates: estimated cost by device; no time if it is not finite.
        files: paths of the weights files by name; None for those that are missing.

    Returns:
        A JSON object.
    """
    size, frames = clip.images.shape[1], len(clip.images)
    return {
        "model": settings.model.replace("_", "-"),
        "frames": frames,
        "source_frames": list(clip.source_frames),
        "fps": clip.fps,
        "size": size,
        "crop": crop_report(clip.crop),
        "alpha_known": clip.alpha_known,
        "warnings": list(clip.warnings),
        "preview": None if preview is None else str(preview),
        "views": 1 + len(plan.azimuths_deg),
        "azimuths_deg": [0.0, *plan.azimuths_deg],
        "elevation_deg": plan.elevation_deg,
        **work,
        "device": settings.device,
        "estimate": {name: _estimate_report(each, name) for name, each in estimates.items()},
        "weights": {name: None if path is None else str(path) for name, path in files.items()},
        "missing_weights": [name for name, path in files.items() if path is None],
    }


def needed_memory(found: Estimate, device: str) -> int:
    """Return the memory that a generation needs on a device, on a CPU with the libraries, bytes.

    Args:
        found: estimated cost.
        device: "cpu" or "cuda".
    """
    loaded = (peak_memory(torch.device("cpu")) or 0) if device == "cpu" else 0
    return found.device_memory_bytes + loaded


def _estimate_report(found: Estimate, device: str) -> dict[str, Any]:
    return {
        "memory_bytes": needed_memory(found, device),
        "disk_bytes": found.disk_bytes,
        "flops": found.flops,
        "seconds": found.seconds if math.isfinite(found.seconds) else None,
    }
