"""Camera files: nerfstudio camera paths, and `transforms.json` files without their images.

nerfstudio's viewer and its Blender add-on save a JSON with `camera_path`, a list of poses
(camera-to-world, OpenGL axes, 16 numbers row by row), each with a vertical `fov` in degrees and,
for dynamic scenes, a `render_time` in [0, 1]. Its world is the one that our dataparser handed to
nerfstudio, which is that of the scene: +Z up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recon.errors import InputError
from recon.grid.cameras import Camera, rigid_pose
from recon.grid.orientation import rotated
from recon.grid.transforms import Transforms, read_transforms


class CameraFile(NamedTuple):
    """F cameras of one image size.

    Attributes:
        cameras: F cameras.
        times: F times in [0, 1]; None if the file has none.
        fps: frames per second; None if the file has no frame rate.
    """

    cameras: list[Camera]
    times: list[float] | None
    fps: float | None


def read_camera_file(
    path: str | Path, height: int, width: int, R_world_source: np.ndarray | None = None
) -> CameraFile:
    """Read a nerfstudio camera path or the cameras of a `transforms.json`.

    Args:
        path: JSON file.
        height: image height in pixels, used if the file has none.
        width: image width in pixels, used if the file has none.
        R_world_source: rotation to the world of the result from that of `frames` which another
            program wrote, [3, 3]; None: they are the same. Cameras of `camera_path` and of files
            of ours are in the world of the result already.

    Raises:
        InputError: The file is missing, not JSON, of neither kind, or has invalid numbers.
    """
    path = Path(path)
    values = _read_object(path)
    try:
        if "camera_path" in values:
            found, in_world = _nerfstudio_path(values), True
        elif "frames" in values:
            transforms = read_transforms(path)
            found, in_world = _transforms_path(transforms, height, width), transforms.is_ours
        else:
            raise ValueError(
                "expected `camera_path` (nerfstudio) or `frames` (transforms JSON), found neither"
            )
        sizes = sorted({(camera.width, camera.height) for camera in found.cameras})
        if len(sizes) != 1 or min(sizes[0]) < 1:
            raise ValueError(f"expected cameras of one size, found {sizes or 'no cameras'}")
        if found.fps is not None and not 0 < found.fps < 1000:
            raise ValueError(f"expected frames per second between 0 and 1000, found {found.fps}")
    except KeyError as error:
        raise InputError(f"the key {error} is missing", path) from error
    except (TypeError, ValueError) as error:
        raise InputError(f"not a valid camera path: {error}", path) from error
    if R_world_source is None or in_world:
        return found
    return found._replace(cameras=[rotated(camera, R_world_source) for camera in found.cameras])


def _read_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())  # bytes, whose encoding it detects
    except FileNotFoundError as error:
        raise InputError.missing(path) from error
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise InputError(f"cannot be read as JSON ({error})", path) from error
    if not isinstance(values, dict):
        raise InputError(f"expected a JSON object, found {type(values).__name__}", path)
    return values


def _nerfstudio_path(values: Mapping[str, Any]) -> CameraFile:
    if values.get("camera_type", "perspective") != "perspective":
        raise ValueError(f"expected perspective cameras, found {values['camera_type']!r}")
    width, height = int(values["render_width"]), int(values["render_height"])
    entries = values["camera_path"]
    cameras = [_nerfstudio_camera(entry, height, width) for entry in entries]
    times = None
    if any("render_time" in entry for entry in entries):
        times = [_time(entry["render_time"]) for entry in entries]
    return CameraFile(cameras, times, float(values["fps"]) if "fps" in values else None)


def _nerfstudio_camera(entry: Mapping[str, Any], height: int, width: int) -> Camera:
    fov_deg = float(entry["fov"])
    if not 0 < fov_deg < 180:
        raise ValueError(f"expected a field of view between 0 and 180 degrees, found {fov_deg}")
    focal_px = height / 2 / np.tan(np.radians(fov_deg) / 2)
    pose = rigid_pose(entry["camera_to_world"])
    return Camera(pose, focal_px, focal_px, width / 2, height / 2, width, height)


def _time(value: Any) -> float:
    time = float(value)
    if not 0 <= time <= 1:
        raise ValueError(f"expected render_time in [0, 1], found {time}")
    return time


def _transforms_path(transforms: Transforms, height: int, width: int) -> CameraFile:
    cameras, times = [], []
    for entry in transforms.entries:
        stated = entry.intrinsics.values
        size = stated.get("h", height), stated.get("w", width)
        cameras.append(entry.camera(int(size[0]), int(size[1])))
        times.append(entry.time)
    return CameraFile(cameras, None if None in times else times, transforms.fps)
