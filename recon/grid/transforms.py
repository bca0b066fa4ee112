"""The JSON format `transforms.json`, including the keys of D-NeRF and nerfstudio.

    top level   version fps · input_view source_camera · R_world_source
                train_filenames test_filenames · frames
    each frame  file_path transform_matrix · mask_path · time view frame · azimuth_deg elevation_deg
    both        intrinsics, see `recon.grid.intrinsics`; those of a frame replace the shared ones

Frames: `transform_matrix` is camera-to-world in OpenGL axes. Times are in [0, 1].
"""

from __future__ import annotations

import codecs
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import GridError
from recon.grid.cameras import Camera, rigid_pose, viewing_angles_deg
from recon.grid.grid import Grid
from recon.grid.initial_gaussians import FILE as INITIAL_GAUSSIANS
from recon.grid.intrinsics import Intrinsics, number, parse_intrinsics
from recon.grid.lens import Distortion
from recon.grid.orientation import rotation_matrix
from recon.grid.source_camera import (
    SourceCamera,
    source_camera_from_json,
    source_camera_to_json,
)

VERSION = 1
DEFAULT_FPS = 10.0
MAX_JSON_BYTES = 64 * 2**20
MAX_INDEX = 999_999
SPLITS = ("train", "val", "test")
_NOT_VALID = (TypeError, ValueError, OverflowError)  # the last from integers beyond float64

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PosedImage:
    """One entry of `frames`.

    Attributes:
        file_path: path as written, relative to the folder of the JSON file.
        pose: camera-to-world matrix, OpenGL axes, float64, [4, 4].
        intrinsics: what the JSON states of them.
        time: time in [0, 1], or None.
        view: view number, or None.
        frame: frame number, or None.
        mask_path: path of an image that is bright where the object is, or None.
    """

    file_path: str
    pose: np.ndarray
    intrinsics: Intrinsics
    time: float | None
    view: int | None
    frame: int | None
    mask_path: str | None = None

    def camera(self, height: int, width: int) -> Camera:
        """Make the camera of an image of known size, see `Intrinsics.camera`."""
        return self.intrinsics.camera(self.pose, height, width)

    @property
    def distortion(self) -> Distortion | None:
        """Distortion of the lens; None for a pinhole camera."""
        return self.intrinsics.distortion


@dataclass(frozen=True)
class Transforms:
    """The contents of a JSON file of posed images.

    Attributes:
        entries: posed images, at least one.
        fps: frames per second.
        input_view: view number of the input view, or None.
        initial_gaussians: file and frame number of the Gaussians that a fit starts from, or None.
        splits: for each split that nerfstudio's `train_filenames`, `val_filenames` and
            `test_filenames` list, the `file_path`s of its images.
        is_ours: whether this project wrote the file; then the world has +Z up.
        R_world_source: rotation to the world from that of the files that the grid was made of;
            None: they are the same.
        source_camera: see `recon.grid.grid.Grid`.
    """

    entries: tuple[PosedImage, ...]
    fps: float
    input_view: int | None = None
    initial_gaussians: tuple[str, int] | None = None
    splits: Mapping[str, frozenset[str]] = field(default_factory=dict)
    is_ours: bool = False
    R_world_source: np.ndarray | None = None
    source_camera: SourceCamera | None = None


def read_transforms(path: Path, skip_missing: bool = False) -> Transforms:
    """Read and check a JSON file of posed images.

    Args:
        path: the JSON file.
        skip_missing: leave out images without a pose, as programs write them that could not place
            a camera.

    Raises:
        GridError: the file is missing, not JSON, or a value is not valid.
    """
    values = read_json(path)
    try:
        return _parse(values, skip_missing)
    except _NOT_VALID as error:
        raise GridError(str(error), path) from error


def is_json(path: Path) -> bool:
    """Return whether a file is JSON, by its name or its first character."""
    if path.suffix.lower() == ".json":
        return True
    with path.open("rb") as file:
        return file.read(64).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        GridError: the file is missing, too large or not JSON.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise GridError(
                f"expected a JSON of at most {MAX_JSON_BYTES >> 20} MiB; is this a camera file?",
                path,
            )
        return json.loads(path.read_bytes())  # bytes, whose encoding it detects
    except FileNotFoundError as error:
        raise GridError.missing(path) from error
    except OSError as error:
        raise GridError(f"cannot be read ({error.strerror})", path) from error
    except (ValueError, RecursionError) as error:
        raise GridError(f"not valid JSON ({error})", path) from error


def transforms_json(grid: Grid, file_paths: Sequence[str]) -> dict[str, Any]:
    """Make the contents of `transforms.json` for a grid with images at `file_paths`, M of them."""
    shared = _intrinsics_json(grid.cameras[0])
    frames = []
    for index, file_path in enumerate(file_paths):
        camera = grid.camera_of(index)
        azimuth_deg, elevation_deg = viewing_angles_deg(camera)
        own = {k: v for k, v in _intrinsics_json(camera).items() if v != shared[k]}
        frames.append(
            {
                "file_path": file_path,
                "transform_matrix": camera.T_world_camera.tolist(),
                "time": grid.time_of(index),
                "view": grid.view_numbers[grid.view[index]],
                "frame": grid.frame_numbers[grid.frame[index]],
                "azimuth_deg": azimuth_deg,
                "elevation_deg": elevation_deg,
                **own,
            }
        )
    return {
        "version": VERSION,
        "camera_model": "PINHOLE",
        **shared,
        "fps": grid.fps,
        **_input_view_json(grid),
        **_initial_gaussians_json(grid),
        **_rotation_json(grid),
        **_source_camera_json(grid),
        "frames": frames,
    }


def _input_view_json(grid: Grid) -> dict[str, int]:
    if grid.input_view is None:
        return {}
    return {"input_view": grid.view_numbers[grid.input_view]}


def _initial_gaussians_json(grid: Grid) -> dict[str, Any]:
    if grid.initial_gaussians is None:
        return {}
    frame = grid.frame_numbers[grid.initial_gaussians.frame]
    return {"initial_gaussians": {"file_path": INITIAL_GAUSSIANS, "frame": frame}}


def _rotation_json(grid: Grid) -> dict[str, Any]:
    if (grid.R_world_source == np.eye(3)).all():
        return {}
    return {"R_world_source": grid.R_world_source.tolist()}


def _source_camera_json(grid: Grid) -> dict[str, Any]:
    if grid.source_camera is None:
        return {}
    return {"source_camera": source_camera_to_json(grid.source_camera)}


def _intrinsics_json(camera: Camera) -> dict[str, Any]:
    return {
        "fl_x": camera.fl_x,
        "fl_y": camera.fl_y,
        "cx": camera.cx,
        "cy": camera.cy,
        "w": camera.width,
        "h": camera.height,
        "camera_angle_x": 2 * math.atan(camera.width / 2 / camera.fl_x),
    }


def _parse(values: Any, skip_missing: bool) -> Transforms:
    if not isinstance(values, dict):
        raise ValueError(f"expected a JSON object, found {type(values).__name__}")
    version = values.get("version")  # other programs may use the key with texts
    if isinstance(version, int) and version != VERSION:
        raise ValueError(
            f"expected version {VERSION}, found {version}; "
            "update fourdvd if a newer version wrote it"
        )
    frames = values.get("frames")
    if not isinstance(frames, list):
        raise ValueError(f"expected `frames` to be a list, found {type(frames).__name__}")
    if not frames:
        raise ValueError("`frames` is empty; a grid needs at least one image")
    if skip_missing:
        frames = _posed(frames)
    _warn_of_unused(values)
    return Transforms(
        tuple(_parse_frame(i, frame, values) for i, frame in enumerate(frames)),
        number(values, "fps", DEFAULT_FPS),
        _index(values, "input_view"),
        _initial_gaussians(values),
        _splits(values),
        is_ours=version == VERSION,
        R_world_source=_rotation(values),
        source_camera=source_camera_from_json(values.get("source_camera")),
    )


def _posed(frames: list[Any]) -> list[Any]:
    """Return the images that have a pose; all if none has one, which is refused later."""
    posed = [
        frame
        for frame in frames
        if not isinstance(frame, dict) or frame.get("transform_matrix") is not None
    ]
    if posed and len(posed) < len(frames):
        _log.warning(
            "left out %d of %d images, which have no pose", len(frames) - len(posed), len(frames)
        )
    return posed or frames


def _warn_of_unused(values: Mapping[str, Any]) -> None:
    """Warn of keys that change the images or cameras and that nothing here reads."""
    shutter = values.get("rolling_shutter")
    if isinstance(shutter, list) and any(shutter):
        _log.warning("`rolling_shutter` is ignored; fast motion of the camera will be blurred")


def _splits(values: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    found = {name: values.get(f"{name}_filenames") for name in SPLITS}
    for name, names in found.items():
        if not (
            names is None or (isinstance(names, list) and all(isinstance(n, str) for n in names))
        ):
            raise ValueError(f"expected `{name}_filenames` as a list of paths, found {names!r}")
    return {name: frozenset(names) for name, names in found.items() if names is not None}


def _rotation(values: Mapping[str, Any]) -> np.ndarray | None:
    found = values.get("R_world_source")
    try:
        return None if found is None else rotation_matrix(found)
    except _NOT_VALID as error:
        raise ValueError(f"`R_world_source`: {error}") from error


def _initial_gaussians(values: Mapping[str, Any]) -> tuple[str, int] | None:
    found = values.get("initial_gaussians")
    if found is None:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("file_path"), str):
        raise ValueError(f"expected `initial_gaussians` with a `file_path`, found {found!r}")
    return found["file_path"], _index(found, "frame") or 0


def _parse_frame(index: int, frame: Any, shared: Mapping[str, Any]) -> PosedImage:
    try:
        if not isinstance(frame, dict):
            raise ValueError(f"expected an object, found {type(frame).__name__}")
        file_path = frame.get("file_path")
        if not isinstance(file_path, str) or not file_path:
            raise ValueError(f"expected `file_path` to be a string, found {file_path!r}")
        if frame.get("transform_matrix") is None:
            raise ValueError(
                "`transform_matrix` is missing; leave out images without a pose with --skip-missing"
            )
        return PosedImage(
            file_path=file_path,
            pose=rigid_pose(frame["transform_matrix"]),
            intrinsics=parse_intrinsics(frame, shared),
            time=_time(frame),
            view=_index(frame, "view"),
            frame=_index(frame, "frame"),
            mask_path=_mask_path(frame),
        )
    except _NOT_VALID as error:
        raise ValueError(f"frames[{index}]: {error}") from error


def _mask_path(frame: Mapping[str, Any]) -> str | None:
    mask_path = frame.get("mask_path")
    if mask_path is not None and (not isinstance(mask_path, str) or not mask_path):
        raise ValueError(f"expected `mask_path` to be a string, found {mask_path!r}")
    return mask_path


def _time(values: Mapping[str, Any]) -> float | None:
    if "time" not in values:
        return None
    time = number(values, "time")
    if not 0 <= time <= 1:
        raise ValueError(f"`time` must be within [0, 1], found {time}; divide by the last time")
    return time


def _index(values: Mapping[str, Any], key: str) -> int | None:
    if key not in values:
        return None
    value = number(values, key)
    if not 0 <= value <= MAX_INDEX or value != int(value):
        raise ValueError(f"`{key}` must be an integer from 0 to {MAX_INDEX}, found {values[key]!r}")
    return int(value)
