"""All models by name: which pipeline generates grids with each, and how it is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from generation.clip.preparing import Clip, SquareClip
from generation.cost import Estimate, measured_rate
from generation.diffusion_pipeline import DiffusionPipeline
from generation.lift_pipeline import LiftPipeline
from generation.pipeline import Pipeline
from generation.plan import Plan
from generation.presets import make_plan, presets
from generation.report import dry_run_report
from generation.settings import PREFERRED, GenerateSettings
from recon.devices import resolve_network_device

pipelines: dict[str, type[Pipeline[Any]]] = {
    "lift": LiftPipeline,
    **dict.fromkeys(presets, DiffusionPipeline),
}


AUTO = "auto"


class ChosenModel(NamedTuple):
    """The model that "auto" stands for on this machine, and why, as a part of a sentence."""

    name: str
    reason: str


def choose_model(device: str, weights_folder: str | Path | None = None) -> ChosenModel:
    """Choose the best model that this machine can run in reasonable time.

    Args:
        device: "cpu" or "cuda".
        weights_folder: folder to search for weights first.
    """
    if device != "cuda":
        return ChosenModel("lift", "there is no CUDA device for the larger models")
    folder = None if weights_folder is None else Path(weights_folder)
    for name in PREFERRED:
        plan = make_plan(GenerateSettings(model=name), presets[name].window_frames)
        if all(DiffusionPipeline.find_files(plan, folder).values()):
            return ChosenModel(name, "a CUDA device and its weights were found")
    return ChosenModel("lift", f"no weights of {' or '.join(PREFERRED)} were found")


def load_pipeline(
    name: str = AUTO,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    low_memory: bool = False,
    orbit_model: str | None = None,
    coarse_only: bool = False,
) -> Pipeline[Any]:
    """Find and open the weights of a model.

    Args:
        name: name of the model: "lift", "mini", "sv4d2", "sv4d2-8views", "sv4d", "4dvd", or "auto"
            for the one that `choose_model` chooses.
        weights: folder to search first; then `FOURDVD_WEIGHTS` and the Hugging Face cache. Nothing
            is downloaded.
        device: "cpu", "cuda", or "auto" for CUDA where it is available.
        precision: "float32", "bfloat16", "float16", or "auto" for bfloat16 on CUDA, else float32;
            for lift also bfloat16 on CPUs with instructions for it.
        low_memory: whether to save device memory at the expense of time.
        orbit_model: "sv3d_u" or "sv3d_p", for the reference views of sv4d and 4dvd.
        coarse_only: whether a cascade ends with its coarse grid, enlarged.

    Raises:
        InputError: a name is unknown, or the model has no use for an option.
        WeightsError: weights are missing, damaged or belong to another model.
        BackendError: the device is not available.

    Example:
        >>> pipeline = load_pipeline("lift")
        >>> grid = pipeline(load_clip("robot.mp4"), seed=0, on_step=print)
    """
    device = resolve_network_device(device)
    settings = GenerateSettings(
        model=choose_model(device, weights).name if name == AUTO else name.replace("-", "_"),
        orbit_model=orbit_model,
        precision=precision,
        low_memory=low_memory,
        device=device,
        coarse_only=coarse_only,
    )
    return open_pipeline(settings, None if weights is None else Path(weights))


def open_pipeline(
    settings: GenerateSettings, weights_folder: Path | None = None, keep_networks: bool = True
) -> Pipeline[Any]:
    """Find and open the weights of a model; `load_pipeline` for options in a `GenerateSettings`.

    Args:
        settings: the options; their device must be resolved, not "auto".
        weights_folder: folder to search for weights first.
        keep_networks: whether networks stay in memory for the next grid.
    """
    return pipelines[settings.model].open(settings, weights_folder, keep_networks)


def weights_identity(
    settings: GenerateSettings, weights_folder: Path | None = None
) -> dict[str, int | str]:
    """Identify the weights that a model would use, in a second, without loading them.

    Args:
        settings: the options; their device must be resolved, not "auto".
        weights_folder: folder to search for weights first.

    Returns:
        The size in bytes of a published file, and the sha256 of others, by model or file name.

    Raises:
        WeightsError: weights are missing, damaged or belong to another model.
    """
    identity = open_pipeline(settings, weights_folder, keep_networks=False).weights_identity()
    return {name: each for group in identity.values() for name, each in group.items()}


def prepare(clip: Clip | SquareClip, settings: GenerateSettings) -> tuple[SquareClip, Plan]:
    """Cut a clip to the size of a model's grid, and resolve the options for it.

    Raises:
        InputError: a number is out of range, the clip is too short, or a `SquareClip` has another
            size.
    """
    return pipelines[settings.model].prepare(clip, settings)


def dry_run(
    clip: SquareClip,
    plan: Plan,
    settings: GenerateSettings,
    preview: Path | None,
    weights_folder: Path | None = None,
) -> dict[str, Any]:
    """Collect what a generation would make, its estimated cost and the weights files found.

    Args:
        clip: the input.
        plan: the plan that the options resolved to.
        settings: the options; their device is resolved.
        preview: image of the prepared clip; None: it was not written.
        weights_folder: folder to search for weights first.

    Returns:
        A JSON object; the estimate is for the device and for CUDA.
    """
    pipeline, (frames, size) = pipelines[settings.model], clip.images.shape[:2]

    def cost(device: str) -> Estimate:
        is_here = device == "cpu" or torch.cuda.is_available()
        rate = measured_rate(device) if is_here else float("nan")
        on_device = replace(settings, device=device)
        return pipeline.estimate_cost(plan, on_device, size, frames, rate, weights_folder)

    return dry_run_report(
        clip,
        plan,
        settings,
        preview,
        pipeline.work(plan, size),
        {device: cost(device) for device in dict.fromkeys((settings.device, "cuda"))},
        pipeline.find_files(plan, weights_folder),
    )
