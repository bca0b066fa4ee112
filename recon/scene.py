"""A 4D scene: canonical Gaussians, their deformation, and the cameras and times of their fit.

On disk a scene is a folder: `scene.safetensors` holds the tensors (`gaussians.*`, `deformation.*`),
`scene.json` everything else. Only these two files are read; never a pickle. A run of nerfstudio's
method `fourdvd` has such a folder beside its `config.yml`, which is not read either.

Letters: N Gaussians, V cameras, T times. Frame: world, +Z up. Times are in [0, 1].
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from recon.deformation import Deformation, load_deformation
from recon.errors import InputError, SceneError
from recon.gaussians import Gaussians
from recon.grid.cameras import Camera, camera_from_json, camera_to_json
from recon.grid.orientation import rotation_matrix
from recon.grid.source_camera import (
    SourceCamera,
    source_camera_from_json,
    source_camera_to_json,
)
from recon.output import output_folder
from recon.rendering import render_gaussians
from recon.resume import save_tensors, tensors_of
from recon.similarity import Similarity

FORMAT = "fourdvd-scene"
VERSION = 1
TENSORS = "scene.safetensors"
DESCRIPTION = "scene.json"
RUN_CONFIG = "config.yml"  # of a nerfstudio run, whose scene is in the folder RUN_SCENE beside it
RUN_RECORD = "run.json"  # in the folder of `fourdvd run`
TRAIN, CHECKPOINT, LOG = "train", "checkpoint.safetensors", "log.jsonl"  # of an unfinished scene
REPLACEMENT = "replacement"  # in a finished scene: as TRAIN, of the fit that will replace it
RUN_SCENE = "scene"  # also the folder of the scene in that of `fourdvd run`


@dataclass
class Scene:
    """Deformable Gaussians and the setting in which they were fitted.

    Example:
        >>> scene = load_scene("out/scene")
        >>> image = scene.render(scene.cameras[0], time=0.5)

    Attributes:
        gaussians: the canonical Gaussians.
        deformation: motion model, which moves the canonical Gaussians to any time.
        times: times of the fitted frames in [0, 1], ascending, [T].
        cameras: cameras of the fitted views, V of them.
        fps: playback rate of the T frames in frames per second.
        background: default background color of renderings, sRGB in [0, 1].
        R_world_source: rotation to the world (+Z up) from that of the files that were fitted,
            float64, [3, 3].
        source_camera: the camera of the video that the scene was made of, which sees the object
            where it was in the video; None: there is none, or it is not known.
        provenance: JSON-able record of the origin of the scene (grid, settings, versions).
        metrics: JSON-able metrics of the fit, as in `metrics.json` but without those of each image.
    """

    gaussians: Gaussians
    deformation: Deformation
    times: np.ndarray
    cameras: tuple[Camera, ...]
    fps: float = 10.0
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    R_world_source: np.ndarray = field(default_factory=lambda: np.eye(3))
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    source_camera: SourceCamera | None = None

    def at(self, time: float) -> Gaussians:
        """Return the Gaussians at a time in [0, 1]; between fitted times they are interpolated."""
        return self.deformation(self.gaussians, time)

    def render(
        self, camera: Camera, time: float, background: Sequence[float] | None = None
    ) -> np.ndarray:
        """Render an image.

        The image is uint8, as in a `Grid` and as image writers expect. For floats, alpha, depth or
        gradients call `recon.rendering.render_gaussians(scene.at(time), [camera])`.

        Args:
            camera: any camera; it determines the height and width of the image.
            time: time in [0, 1].
            background: sRGB in [0, 1]; None: the scene's `background`.

        Returns:
            sRGB, uint8, [H, W, 3].

        Raises:
            InputError: the time is outside [0, 1].
            BackendError: the scene is on a GPU for which no rasterizer is available.
        """
        if not 0 <= time <= 1:
            raise InputError(f"expected a time in [0, 1], found {time}")
        colors = self.background if background is None else background
        with torch.no_grad():
            rgb = render_gaussians(self.at(float(time)), [camera], colors).rgb[0]
        return (rgb.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()

    def save(self, folder: str | Path, overwrite: bool = False) -> None:
        """Write a scene folder atomically; `load_scene` reads it.

        Args:
            folder: folder to create.
            overwrite: whether a folder that is not empty may be replaced.

        Raises:
            OutputExistsError, OutputError: the folder cannot be created or replaced.
            OSError: the disk is full or not writable.
        """
        with output_folder(folder, overwrite) as partial:
            write_scene(self, partial)

    def mapped(self, similarity: Similarity) -> Scene:
        """Return a copy in a world of another unit or place, cameras included."""
        return replace(
            self,
            gaussians=similarity.gaussians(self.gaussians),
            deformation=similarity.deformation(self.deformation),
            cameras=tuple(similarity.camera(camera) for camera in self.cameras),
            source_camera=similarity.source_camera(self.source_camera),
        )

    def to(self, device: str | torch.device) -> Scene:
        """Move the tensors to another device, in place; return the scene."""
        self.gaussians = self.gaussians.map(lambda tensor: tensor.to(device))
        self.deformation.to(device)
        return self


def write_scene(scene: Scene, folder: Path) -> None:
    """Write `scene.safetensors` and `scene.json` into an existing folder."""
    tensors = {f"gaussians.{k}": v for k, v in scene.gaussians._asdict().items()}
    tensors |= {f"deformation.{k}": v for k, v in scene.deformation.state_dict().items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_tensors(folder / TENSORS, tensors, {"format": f"{FORMAT} {VERSION}"})
    description = {
        "format": FORMAT,
        "version": VERSION,
        "gaussians": scene.gaussians.means.shape[0],
        "sh_degree": scene.gaussians.sh_degree,
        "motion": scene.deformation.name,
        "deformation": scene.deformation.configuration(),
        "times": [float(time) for time in scene.times],
        "fps": scene.fps,
        "background": list(scene.background),
        "R_world_source": scene.R_world_source.tolist(),
        "cameras": [camera_to_json(camera) for camera in scene.cameras],
        "source_camera": scene.source_camera and source_camera_to_json(scene.source_camera),
        "provenance": scene.provenance,
        "metrics": scene.metrics,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")


def is_scene(path: Path) -> bool:
    """Return whether a path is a scene folder, or a nerfstudio run or the `config.yml` of one."""
    return path.name == RUN_CONFIG or (scene_folder(path) / DESCRIPTION).is_file()


def scene_folder(path: Path) -> Path:
    """Return the scene folder of a nerfstudio run, or of its `config.yml`; any other path itself.

    Raises:
        SceneError: the run has no scene.
    """
    if path.name == RUN_CONFIG:
        run = path.parent
    elif (path / RUN_CONFIG).is_file() and not (path / DESCRIPTION).is_file():
        run = path
    else:
        return path
    if not (run / RUN_SCENE / DESCRIPTION).is_file():
        raise SceneError(
            f"expected a run of `ns-train fourdvd` with the folder {RUN_SCENE}, which appears with "
            "the first checkpoint; runs of other methods have none",
            path,
        )
    return run / RUN_SCENE


def check_no_run(folder: Path) -> None:
    """Check that a folder is neither that of a run, nor an unfinished scene, nor contains one.

    Raises:
        SceneError: it is; the message names the scene, or the command that finishes it.
    """
    if (folder / RUN_SCENE / DESCRIPTION).is_file():
        raise SceneError(f"this is the folder of a run; its scene is {folder / RUN_SCENE}", folder)
    for run in (folder, folder.parent) if folder.name == RUN_SCENE else (folder,):
        if (run / RUN_RECORD).is_file():
            raise SceneError(
                "the run has no finished scene yet; to resume it, repeat its command: "
                f"`fourdvd run {_run_input(run)} -o {run}` with the same options",
                run,
            )
    inside = sorted(path for path in folder.glob("*") if not path.name.startswith("."))
    for scene in (folder, *inside):
        files = (scene / TRAIN / name for name in (CHECKPOINT, LOG))
        if any(file.is_file() for file in files) and not (scene / DESCRIPTION).is_file():
            raise SceneError(
                "the fit of this scene is unfinished; to resume it, repeat its command: `fourdvd "
                f"reconstruct GRID -o {scene}` with the same options; `fourdvd view {scene}` shows "
                "what there is",
                scene,
            )


def _run_input(run: Path) -> str:
    """Return the input that the record of a run names, for a message."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return str(json.loads((run / RUN_RECORD).read_bytes())["input"])
    return "INPUT"


def load_scene(folder: str | Path, device: str | torch.device = "cpu") -> Scene:
    """Read a scene folder.

    Args:
        folder: scene folder, as written by `Scene.save` or `fourdvd reconstruct`; or the folder or
            `config.yml` of a nerfstudio run of the method `fourdvd`.
        device: target device of the tensors.

    Raises:
        SceneError: the folder, its JSON or its tensors are missing or not valid.
        OSError: a file may not be read.
    """
    folder = scene_folder(Path(folder))
    description = _read_description(folder)
    try:
        with (folder / TENSORS).open("rb"):
            pass  # because safetensors says of a file that may not be read that it is missing
    except FileNotFoundError as error:
        raise SceneError(
            f"{TENSORS} is missing; expected the folder of a finished scene", folder
        ) from error
    try:
        tensors = load_file(folder / TENSORS, device=str(device))
    except (SafetensorError, OSError) as error:
        raise SceneError(f"cannot be read as safetensors: {error}", folder / TENSORS) from error
    gaussians = _checked_gaussians(tensors_of(tensors, "gaussians."), folder)
    try:
        deformation = load_deformation(
            description["motion"], description["deformation"], tensors_of(tensors, "deformation.")
        )
        scene = Scene(
            gaussians=gaussians,
            deformation=deformation.to(device),
            times=_checked_times(description["times"]),
            cameras=tuple(camera_from_json(camera) for camera in description["cameras"]),
            fps=_positive(description["fps"]),
            background=_three(description["background"]),
            R_world_source=rotation_matrix(description.get("R_world_source", np.eye(3))),
            provenance=description.get("provenance", {}),
            metrics=description.get("metrics", {}),
            source_camera=source_camera_from_json(description.get("source_camera")),
        )
    except SceneError as error:
        raise SceneError(str(error), folder) from error
    except KeyError as error:
        raise SceneError(f"the field {error} is missing", folder / DESCRIPTION) from error
    except (TypeError, ValueError) as error:
        raise SceneError(f"a field is not valid: {error}", folder / DESCRIPTION) from error
    rows = {len(parameter) for parameter in deformation.gaussian_parameters()}
    if not rows <= {len(gaussians.means)}:
        raise SceneError(
            f"the motion has tensors for {sorted(rows)} Gaussians, expected {len(gaussians.means)}",
            folder / TENSORS,
        )
    return scene


def count_views(folder: str | Path) -> int:
    """Count the fitted views of a scene without reading its tensors.

    Args:
        folder: see `load_scene`.

    Raises:
        SceneError: the folder or its JSON are missing or not valid.
    """
    folder = scene_folder(Path(folder))
    try:
        return len(_read_description(folder)["cameras"])
    except (KeyError, TypeError) as error:
        raise SceneError(f"a field is not valid: {error!r}", folder / DESCRIPTION) from error


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if not folder.exists():
            raise SceneError.missing(folder) from error
        check_no_run(folder)
        raise SceneError(f"{DESCRIPTION} is missing; expected a scene folder", folder) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SceneError(f"not valid JSON ({error})", path) from error
    found = (
        (description.get("format"), description.get("version"))
        if isinstance(description, dict)
        else None
    )
    if found != (FORMAT, VERSION):
        raise SceneError(f"expected format {FORMAT!r} version {VERSION}, found {found}", path)
    return description


def _checked_gaussians(tensors: Mapping[str, torch.Tensor], folder: Path) -> Gaussians:
    missing = [name for name in Gaussians._fields if name not in tensors]
    if missing:
        raise SceneError(f"tensors {missing} are missing", folder / TENSORS)
    count = tensors["means"].shape[0] if tensors["means"].ndim else 0
    expected = {
        "means": [(count, 3)],
        "quats": [(count, 4)],
        "scales": [(count, 3)],
        "opacities": [(count,)],
        "sh0": [(count, 1, 3)],
        "shN": [(count, K, 3) for K in (0, 3, 8, 15)],
    }
    for name, shapes in expected.items():
        if tuple(tensors[name].shape) not in shapes:
            raise SceneError(
                f"{name} has shape {tuple(tensors[name].shape)}, expected one of {shapes}",
                folder / TENSORS,
            )
    gaussians = Gaussians(**{name: tensors[name].float() for name in Gaussians._fields})
    if not all(torch.isfinite(tensor).all() for tensor in gaussians):
        raise SceneError("the Gaussians contain NaN or infinite numbers", folder / TENSORS)
    return gaussians


def _checked_times(values: Any) -> np.ndarray:
    times = np.asarray(values, dtype=np.float64)
    if times.ndim != 1 or len(times) == 0 or not (np.diff(times) > 0).all():
        raise ValueError(f"times must be a list of ascending numbers, found {values}")
    if not (times[0] >= 0 and times[-1] <= 1):
        raise ValueError(f"times must be in [0, 1], found {values}")
    return times


def _positive(value: Any) -> float:
    number = float(value)
    if not (0 < number < float("inf")):
        raise ValueError(f"fps must be a positive number, found {value}")
    return number


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    if not np.isfinite([red, green, blue]).all():
        raise ValueError(f"background must be three numbers, found {values}")
    return red, green, blue
