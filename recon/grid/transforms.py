"""The JSON format `transforms.json`, including the keys of D-NeRF and nerfstudio.

    top level   camera_model version fps · input_view · fl_x fl_y cx cy w h camera_angle_x · frames
    each frame  file_path transform_matrix · time view frame · azimuth_deg elevation_deg
                · and any of the intrinsics, for this frame only

Frames: `transform_matrix` is camera-to-world in OpenGL axes. Times are in [0, 1].
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import GridError
from recon.grid.cameras import Camera, rigid_pose, viewing_angles_deg
from recon.grid.grid import Grid
from recon.grid.initial_gaussians import FILE as INITIAL_GAUSSIANS

VERSION = 1
DEFAULT_FPS = 10.0
MAX_JSON_BYTES = 64 * 2**20
MAX_INDEX = 999_999
CAMERA_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV")  # OPENCV without distortion
INTRINSICS = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x")
DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
_NOT_VALID = (TypeError, ValueError, OverflowError)  # the last from integers beyond float64


@dataclass(frozen=True)
class PosedImage:
    """One entry of `frames`.

    Attributes:
        file_path: path as written, relative to the folder of the JSON file.
        pose: camera-to-world matrix, OpenGL axes, float64, [4, 4].
        intrinsics: values of the given keys of `INTRINSICS`, in pixels and radians.
        time: time in [0, 1], or None.
        view: view number, or None.
        frame: frame number, or None.
    """

    file_path: str
    pose: np.ndarray
    intrinsics: Mapping[str, float]
    time: float | None
    view: int | None
    frame: int | None

    def camera(self, height: int, width: int) -> Camera:
        """Make the camera of an image of known size.

        Raises:
            ValueError: the JSON has another image size, or no focal length.
        """
        given = self.intrinsics
        stated = (given.get("w", width), given.get("h", height))
        if stated != (width, height):
            raise ValueError(
                f"expected an image of {stated[0]:g}×{stated[1]:g} pixels (`w`, `h`), found "
                f"{width}×{height}"
            )
        if "fl_x" in given:
            focal_px = given["fl_x"]
        elif "camera_angle_x" in given:
            focal_px = width / 2 / math.tan(given["camera_angle_x"] / 2)
        else:
            raise ValueError("expected `fl_x` or `camera_angle_x`, found neither")
        return Camera(
            self.pose,
            focal_px,
            given.get("fl_y", focal_px),
            given.get("cx", width / 2),
            given.get("cy", height / 2),
            width,
            height,
        )


@dataclass(frozen=True)
class Transforms:
    """The contents of a JSON file of posed images.

    Attributes:
        entries: posed images, at least one.
        fps: frames per second.
        input_view: view number of the input view, or None.
        initial_gaussians: file and frame number of the Gaussians that a fit starts from, or None.
    """

    entries: tuple[PosedImage, ...]
    fps: float
    input_view: int | None = None
    initial_gaussians: tuple[str, int] | None = None


def read_transforms(path: Path) -> Transforms:
    """Read and check a JSON file of posed images.

    Raises:
        GridError: the file is missing, not JSON, or a value is not valid.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise GridError(
                f"expected a JSON of at most {MAX_JSON_BYTES >> 20} MiB; is this a camera file?",
                path,
            )
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GridError(f"cannot be read ({error.strerror})", path) from error
    except (ValueError, RecursionError) as error:
        raise GridError(f"not valid JSON ({error})", path) from error
    try:
        return _parse(values)
    except _NOT_VALID as error:
        raise GridError(str(error), path) from error


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


def _parse(values: Any) -> Transforms:
    if not isinstance(values, dict):
        raise ValueError(f"expected a JSON object, found {type(values).__name__}")
    if values.get("version", VERSION) != VERSION:
        raise ValueError(
            f"expected version {VERSION}, found {values['version']!r}; "
            "update fourdvd if a newer version wrote it"
        )
    frames = values.get("frames")
    if not isinstance(frames, list):
        raise ValueError(f"expected `frames` to be a list, found {type(frames).__name__}")
    if not frames:
        raise ValueError("`frames` is empty; a grid needs at least one image")
    shared = _intrinsics(values)
    fps = _number(values, "fps", DEFAULT_FPS)
    entries = tuple(_parse_frame(i, frame, shared) for i, frame in enumerate(frames))
    return Transforms(entries, fps, _index(values, "input_view"), _initial_gaussians(values))


def _initial_gaussians(values: Mapping[str, Any]) -> tuple[str, int] | None:
    found = values.get("initial_gaussians")
    if found is None:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("file_path"), str):
        raise ValueError(f"expected `initial_gaussians` with a `file_path`, found {found!r}")
    return found["file_path"], _index(found, "frame") or 0


def _parse_frame(index: int, frame: Any, shared: Mapping[str, float]) -> PosedImage:
    try:
        if not isinstance(frame, dict):
            raise ValueError(f"expected an object, found {type(frame).__name__}")
        file_path = frame.get("file_path")
        if not isinstance(file_path, str) or not file_path:
            raise ValueError(f"expected `file_path` to be a string, found {file_path!r}")
        if "transform_matrix" not in frame:
            raise ValueError("`transform_matrix` is missing")
        return PosedImage(
            file_path=file_path,
            pose=rigid_pose(frame["transform_matrix"]),
            intrinsics={**shared, **_intrinsics(frame)},
            time=_time(frame),
            view=_index(frame, "view"),
            frame=_index(frame, "frame"),
        )
    except _NOT_VALID as error:
        raise ValueError(f"frames[{index}]: {error}") from error


def _intrinsics(values: Mapping[str, Any]) -> dict[str, float]:
    """Check the given keys of `INTRINSICS`, and that the camera is a pinhole."""
    model = values.get("camera_model", "PINHOLE")
    if model not in CAMERA_MODELS:
        raise ValueError(
            f"expected the camera model PINHOLE, found {model!r}; undistort the images first"
        )
    distorted = [key for key in DISTORTION if _number(values, key, 0.0) != 0]
    if distorted:
        raise ValueError(
            f"lens distortion ({', '.join(distorted)}) is not supported; undistort the images first"
        )
    found = {key: _number(values, key, 0.0) for key in INTRINSICS if key in values}
    for key, value in found.items():
        if key not in ("cx", "cy") and value <= 0:
            raise ValueError(f"`{key}` must be positive, found {value}")
    if found.get("camera_angle_x", 1.0) >= math.pi:
        raise ValueError(
            f"`camera_angle_x` must be below π radians, found {values['camera_angle_x']}"
        )
    return found


def _time(values: Mapping[str, Any]) -> float | None:
    if "time" not in values:
        return None
    time = _number(values, "time", 0.0)
    if not 0 <= time <= 1:
        raise ValueError(f"`time` must be within [0, 1], found {time}; divide by the last time")
    return time


def _index(values: Mapping[str, Any], key: str) -> int | None:
    if key not in values:
        return None
    value = _number(values, key, 0.0)
    if not 0 <= value <= MAX_INDEX or value != int(value):
        raise ValueError(f"`{key}` must be an integer from 0 to {MAX_INDEX}, found {values[key]!r}")
    return int(value)


def _number(values: Mapping[str, Any], key: str, default: float) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"`{key}` must be a finite number, found {value!r}")
    return float(value)
