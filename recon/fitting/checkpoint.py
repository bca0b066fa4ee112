"""The state of an unfinished fit as one safetensors file.

It holds the parameters, the deformation, Adam's moments and the random generator as tensors, and
a JSON
text in the header: which fit it is of, how far it is, and which motion model it has. A fit that
goes on from it does what it would have done without the interruption.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from recon.deformation import load_deformation
from recon.errors import SceneError
from recon.fitting.config import FitConfig
from recon.fitting.fit import Fit
from recon.gaussians import Gaussians
from recon.grid.grid import Grid

CHECKPOINT = "checkpoint.safetensors"
PARTIAL = CHECKPOINT + ".partial"  # while it is written
FORMAT, VERSION = "fourdvd-checkpoint", "2"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
WITHOUT_EFFECT = ("threads", "checkpoint_every", "device")  # on the result of a fit


def fit_identity(grid: Grid, config: FitConfig) -> dict[str, Any]:
    """What makes two fits the same one: their settings and a hash of their images and cameras."""
    digest = hashlib.sha256(grid.images.tobytes())
    for array in (grid.view, grid.frame, grid.times):
        digest.update(array.tobytes())
    for camera in grid.cameras:
        digest.update(camera.T_world_camera.tobytes())
        digest.update(camera.K.tobytes())
    settings = {k: v for k, v in asdict(config).items() if k not in WITHOUT_EFFECT}
    return {"grid": digest.hexdigest(), "settings": settings}


def save_checkpoint(fit: Fit, identity: dict[str, Any], path: Path) -> None:
    """Writes the state aside and puts it in the place of the last one."""
    description = {
        "identity": identity,
        "iteration": fit.iteration,
        "joined": fit.joined,
        "motion": fit.deformation.name,
        "deformation": fit.deformation.configuration(),
    }
    header = {"format": FORMAT, "version": VERSION, "description": json.dumps(description)}
    partial = path.with_name(PARTIAL)
    partial.write_bytes(save(_tensors(fit), metadata=header))
    partial.replace(path)


def read_identity(path: Path) -> dict[str, Any]:
    """The identity of the fit that a checkpoint is of.

    Raises:
        SceneError: the file is not a checkpoint of this version.
    """
    return _read_header(path)["identity"]


def load_checkpoint(fit: Fit, path: Path) -> None:
    """Puts a freshly made fit of the same identity into the saved state.

    Raises:
        SceneError: the file is not a checkpoint of this version, or is damaged.
    """
    description = _read_header(path)
    try:
        with safe_open(path, "pt", device=fit.config.device) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        parameters = {name: tensors[f"gaussians.{name}"] for name in Gaussians._fields}
        fit.parameters = {name: nn.Parameter(value) for name, value in parameters.items()}
        prefix = "deformation."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        fit.deformation = load_deformation(
            description["motion"], description["deformation"], state
        ).to(fit.config.device)
        _restore_buffers(fit, tensors)
        fit.iteration, fit.joined = description["iteration"], description["joined"]
        fit.frame_errors = tensors["frame_errors"].cpu()
        fit.trust.errors = tensors["image_errors"].cpu()
        fit.gradient_sum = tensors["gradient_sum"].cpu()
        fit.generator.set_state(tensors["generator"].cpu())
        fit.optimizer = fit.new_optimizer()
        _restore_moments(fit, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise SceneError(f"the checkpoint is damaged ({error}); delete it", path) from error


def _read_header(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise SceneError(f"cannot be read as a checkpoint ({error}); delete it", path) from error
    if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
        raise SceneError("is a checkpoint of another version; delete it to start again", path)
    try:
        return json.loads(header["description"])
    except (KeyError, json.JSONDecodeError) as error:
        raise SceneError(f"the checkpoint is damaged ({error!r}); delete it", path) from error


def _tensors(fit: Fit) -> dict[str, Tensor]:
    tensors = {f"gaussians.{name}": value.detach() for name, value in fit.parameters.items()}
    tensors |= {f"deformation.{k}": v for k, v in fit.deformation.state_dict().items()}
    tensors |= {f"buffer.{name}": value for name, value in fit.deformation.named_buffers()}
    for index, parameter in _indexed(fit):
        for key in MOMENTS:
            if key in fit.optimizer.state.get(parameter, {}):
                tensors[f"optimizer.{index}.{key}"] = fit.optimizer.state[parameter][key]
    tensors["frame_errors"], tensors["gradient_sum"] = fit.frame_errors, fit.gradient_sum
    tensors["image_errors"] = fit.trust.errors
    tensors["generator"] = fit.generator.get_state()
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def _restore_buffers(fit: Fit, tensors: dict[str, Tensor]) -> None:
    """Those that a scene does not keep, too: they were derived at another time than now."""
    for name, _ in list(fit.deformation.named_buffers()):
        module, _, leaf = name.rpartition(".")
        setattr(fit.deformation.get_submodule(module), leaf, tensors[f"buffer.{name}"])


def _restore_moments(fit: Fit, tensors: dict[str, Tensor]) -> None:
    for index, parameter in _indexed(fit):
        state = {
            key: tensors[f"optimizer.{index}.{key}"].clone()
            for key in MOMENTS
            if f"optimizer.{index}.{key}" in tensors
        }
        if state:
            fit.optimizer.state[parameter] = state


def _indexed(fit: Fit) -> Iterator[tuple[int, torch.Tensor]]:
    groups = fit.optimizer.param_groups
    return enumerate(parameter for group in groups for parameter in group["params"])
