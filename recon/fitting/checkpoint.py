"""Checkpoint and log of an unfinished fit, in a folder of its scene.

    SCENE/train/checkpoint.safetensors   parameters, motion, Adam's moments, random generator
    SCENE/train/log.jsonl                one JSON object every few iterations
    SCENE/replacement/                   the same, if the fit will replace a scene that is there

A fit resumed from a checkpoint gives the same bits as one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from recon.deformation import load_deformation
from recon.errors import InputError, OutputExistsError
from recon.fitting.config import FitConfig
from recon.fitting.fit import Fit
from recon.gaussians import Gaussians
from recon.grid.cameras import camera_from_json, camera_to_json
from recon.grid.grid import Grid
from recon.grid.source_camera import source_camera_from_json, source_camera_to_json
from recon.resume import (
    SavedState,
    check_same,
    fingerprint,
    load_state,
    read_description,
    save_state,
    tensors_of,
)
from recon.scene import CHECKPOINT, LOG, REPLACEMENT, TRAIN, Scene
from recon.similarity import Similarity

FORMAT, VERSION = "fourdvd-checkpoint", "6"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
WITHOUT_EFFECT = ("threads", "checkpoint_every", "device")  # settings that may change on resume
LOG_EVERY = 20  # iterations


class TrainFolder:
    """The folder of the state of a fit, see `state_folder`.

    Args:
        scene_folder: folder of the scene; it may not exist yet.
        identity: the result of `fit_identity`.
    """

    def __init__(self, scene_folder: Path, identity: dict[str, Any]):
        self.folder = state_folder(scene_folder)
        self.checkpoint, self.log = self.folder / CHECKPOINT, self.folder / LOG
        self._identity = identity

    def check(self, overwrite: bool) -> None:
        """Check that an existing checkpoint belongs to this fit; delete another with `overwrite`.

        Raises:
            OutputExistsError: the checkpoint belongs to another fit and `overwrite` is False.
            InputError: the checkpoint is damaged or has another version, and `overwrite` is False.
        """
        try:
            description = read_description(self.checkpoint, format=FORMAT, version=VERSION)
            if description is not None:
                scene_folder = self.folder.parent
                check_same(
                    description["identity"], self._identity, scene_folder, "an unfinished fit"
                )
        except (InputError, OutputExistsError):
            if not overwrite:
                raise
            self.discard()

    def discard(self) -> None:
        """Remove the state of an earlier fit, if there is one, so that this one starts afresh."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def resume(self, fit: Fit) -> float:
        """Restore a fit from its saved state, if any; return its duration so far in seconds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        load_checkpoint(fit, self.checkpoint)
        return _trim_log(self.log, fit.iteration)

    def record(self, fit: Fit, psnr: float, seconds: float) -> None:
        """Append a line to the log every few iterations.

        Args:
            fit: the fit, after a step.
            psnr: running mean PSNR over the training images in dB.
            seconds: duration of the fit so far, in seconds.
        """
        if fit.iteration % LOG_EVERY and not fit.done:
            return
        line = {
            "iteration": fit.iteration,
            "phase": fit.phase,
            "size": fit.schedule.image_size(fit.iteration),
            "psnr": round(psnr, 3),
            "gaussians": len(fit.gaussians.means),
            "seconds": round(seconds, 2),
        }
        with self.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def save(self, fit: Fit) -> None:
        """Save the state of a fit, replacing the older checkpoint."""
        save_checkpoint(fit, self._identity, self.checkpoint)


def state_folder(scene_folder: Path) -> Path:
    """Return the folder of the state of a fit, in that of its scene, which may not exist yet.

    Anything else there, such as a finished scene, stays as it is until the fit replaces it.
    """
    replaces = scene_folder.is_dir() and any(scene_folder.iterdir())
    return scene_folder / (REPLACEMENT if replaces and not is_unfinished(scene_folder) else TRAIN)


def is_unfinished(scene_folder: Path) -> bool:
    """Return whether a folder contains a fit in progress and nothing else."""
    train = scene_folder / TRAIN
    if not train.is_dir() or {path.name for path in scene_folder.iterdir()} != {TRAIN}:
        return False
    # A process that was killed while it saved leaves a partial file beside the checkpoint.
    stem = Path(CHECKPOINT).stem
    return all(
        path.is_file() and (path.name == LOG or path.name.lstrip(".").startswith(f"{stem}."))
        for path in train.iterdir()
    )


def fit_identity(grid: Grid, config: FitConfig) -> dict[str, Any]:
    """Return everything that determines the result of a fit: its settings and its grid."""
    arrays = [grid.images, grid.view, grid.frame, grid.times]
    for camera in grid.cameras:
        arrays += [camera.T_world_camera, camera.K]
    start = grid.initial_gaussians
    if start is not None:
        arrays += start.arrays.values()
    settings = {k: v for k, v in asdict(config).items() if k not in WITHOUT_EFFECT}
    return {
        "grid": fingerprint(*arrays),
        "input_view": grid.input_view,
        "initial_frame": None if start is None else start.frame,
        "settings": settings,
    }


def save_checkpoint(fit: Fit, identity: Mapping[str, Any], path: Path) -> None:
    """Write the state of a fit, replacing an older one atomically."""
    tensors, description = fit_state(fit, identity)
    save_state(path, tensors, description, format=FORMAT, version=VERSION)


def load_checkpoint(fit: Fit, path: Path) -> None:
    """Restore a saved state into a new fit of the same identity; do nothing if there is none.

    Raises:
        InputError: the file is damaged or of another version.
    """
    saved = load_state(path, format=FORMAT, version=VERSION, device=fit.config.device)
    if saved is not None:
        restore_fit(fit, saved, path)


def fit_state(fit: Fit, identity: Mapping[str, Any]) -> SavedState:
    """Return copies of everything that a fit needs to be resumed, the tensors on the CPU."""
    source = fit.grid.source_camera
    description = {
        "identity": identity,
        "iteration": fit.iteration,
        "joined": fit.joined,
        "lost_steps": {str(frame): steps for frame, steps in fit.lost_steps.items()},
        "motion": fit.deformation.name,
        "deformation": fit.deformation.configuration(),
        "scale": fit.T_normal_world.scale,
        "offset": fit.T_normal_world.offset.tolist(),
        "times": [float(time) for time in fit.grid.times],
        "fps": fit.grid.fps,
        "cameras": [camera_to_json(camera) for camera in fit.grid.cameras],
        "source_camera": source and source_camera_to_json(source),
    }
    return SavedState(_tensors(fit), description)


def restore_fit(fit: Fit, saved: SavedState, path: str | Path) -> None:
    """Restore the state of another fit of the same identity.

    Args:
        fit: a new fit; changed in place.
        saved: the result of `fit_state`, on the device of the fit.
        path: file of the state, for messages.

    Raises:
        InputError: the state is damaged.
    """
    tensors, description = saved
    try:
        parameters = {name: tensors[f"gaussians.{name}"] for name in Gaussians._fields}
        fit.parameters = {name: nn.Parameter(value) for name, value in parameters.items()}
        fit.deformation = load_deformation(
            description["motion"], description["deformation"], tensors_of(tensors, "deformation.")
        ).to(fit.config.device)
        _restore_buffers(fit, tensors)
        fit.iteration, fit.joined = description["iteration"], description["joined"]
        lost_steps = description["lost_steps"]
        fit.lost_steps = {int(frame): int(steps) for frame, steps in lost_steps.items()}
        fit.frame_errors = tensors["frame_errors"].double().cpu().numpy()
        fit.image_weights.errors = tensors["image_errors"].double().cpu().numpy()
        fit.statistics = {k: v.cpu() for k, v in tensors_of(tensors, "densification.").items()}
        fit.generator.set_state(tensors["generator"].cpu())
        fit.optimizer = fit.new_optimizer()
        _restore_moments(fit, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError, InputError) as error:
        raise InputError(
            f"the checkpoint is damaged ({error}); delete it to start again", path
        ) from error


def load_unfinished_scene(scene_folder: str | Path) -> Scene:
    """Read the scene of the last checkpoint of an unfinished fit, in the world, for viewing.

    Raises:
        InputError: there is no checkpoint, it is damaged, or an older version wrote it.
    """
    path = state_folder(Path(scene_folder)) / CHECKPOINT
    saved = load_state(path, format=FORMAT, version=VERSION)
    if saved is None:
        raise InputError("expected the checkpoint of a fit, found none yet; try again later", path)
    return scene_of_state(saved, path)


def scene_of_state(saved: SavedState, path: str | Path) -> Scene:
    """Return the scene of a state of `fit_state`, in the world.

    Args:
        saved: the state.
        path: file of the state, for messages.

    Raises:
        InputError: the state is damaged.
    """
    tensors, description = saved
    try:
        deformation = load_deformation(
            description["motion"], description["deformation"], tensors_of(tensors, "deformation.")
        )
        gaussians = Gaussians(**{k: tensors[f"gaussians.{k}"] for k in Gaussians._fields})
        T_normal_world = Similarity(description["scale"], np.asarray(description["offset"]))
        T_world_normal = T_normal_world.inverse()
        return Scene(
            gaussians=T_world_normal.gaussians(gaussians),
            deformation=T_world_normal.deformation(deformation).requires_grad_(False),
            times=np.asarray(description["times"]),
            cameras=tuple(camera_from_json(camera) for camera in description["cameras"]),
            fps=description["fps"],
            source_camera=source_camera_from_json(description.get("source_camera")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"expected a checkpoint with a scene, found none ({error})", path
        ) from error


def _tensors(fit: Fit) -> dict[str, Tensor]:
    tensors = {f"gaussians.{name}": value for name, value in fit.parameters.items()}
    tensors |= {f"deformation.{k}": v for k, v in fit.deformation.state_dict().items()}
    tensors |= {f"buffer.{name}": value for name, value in fit.deformation.named_buffers()}
    tensors |= {f"densification.{name}": value for name, value in fit.statistics.items()}
    for index, parameter in _indexed(fit):
        for key in MOMENTS:
            if key in fit.optimizer.state.get(parameter, {}):
                tensors[f"optimizer.{index}.{key}"] = fit.optimizer.state[parameter][key]
    tensors["frame_errors"] = torch.from_numpy(fit.frame_errors)
    tensors["image_errors"] = torch.from_numpy(fit.image_weights.errors)
    tensors["generator"] = fit.generator.get_state()
    # Clones, because safetensors refuses tensors that share memory.
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


def _restore_buffers(fit: Fit, tensors: Mapping[str, Tensor]) -> None:
    """Restore the buffers that scenes do not store; they depend on an earlier state of the fit."""
    for name, _ in list(fit.deformation.named_buffers()):
        module, _, leaf = name.rpartition(".")
        setattr(fit.deformation.get_submodule(module), leaf, tensors[f"buffer.{name}"])


def _restore_moments(fit: Fit, tensors: Mapping[str, Tensor]) -> None:
    for index, parameter in _indexed(fit):
        state = {
            key: tensors[f"optimizer.{index}.{key}"].clone()
            for key in MOMENTS
            if f"optimizer.{index}.{key}" in tensors
        }
        if state:
            fit.optimizer.state[parameter] = state


def _indexed(fit: Fit) -> Iterator[tuple[int, Tensor]]:
    groups = fit.optimizer.param_groups
    return enumerate(parameter for group in groups for parameter in group["params"])


def _trim_log(log: Path, iteration: int) -> float:
    """Drop log lines after the checkpoint's iteration; return the seconds up to it."""
    kept, seconds = [], 0.0
    if log.exists():
        for line in log.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
                values = json.loads(line)
                if values["iteration"] <= iteration:
                    kept.append(line)
                    seconds = float(values["seconds"])
    log.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    return seconds
