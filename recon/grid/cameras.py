"""Pinhole cameras, and the one place where camera axes are converted.

Frames: world, right-handed, +Z up; camera in OpenGL axes (+X right, +Y up, looks along −Z) as
stored in JSON; camera in OpenCV axes (+X right, +Y down, looks along +Z) as rasterizers want it.
Pixels: the centre of the first pixel is at (0.5, 0.5). Lengths are world units, angles degrees
where the name says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
MAX_LENGTH = 1e6  # world units; float32 has nothing left to resolve an object that far away


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion.

    Attributes:
        T_world_camera: camera-to-world, OpenGL axes, float64, [4, 4].
        fl_x: focal length in pixels, horizontally.
        fl_y: focal length in pixels, vertically.
        cx: principal point in pixels from the left edge.
        cy: principal point in pixels from the upper edge.
        width: of the image in pixels.
        height: of the image in pixels.
    """

    T_world_camera: np.ndarray
    fl_x: float
    fl_y: float
    cx: float
    cy: float
    width: int
    height: int

    @property
    def viewmat(self) -> np.ndarray:
        """World-to-camera in OpenCV axes, as rasterizers want it, float64, [4, 4]."""
        return np.linalg.inv(self.T_world_camera @ OPENGL_FROM_OPENCV)

    @property
    def K(self) -> np.ndarray:
        """Intrinsic matrix in pixels, float64, [3, 3]."""
        return np.array([[self.fl_x, 0, self.cx], [0, self.fl_y, self.cy], [0, 0, 1.0]])

    @property
    def position(self) -> np.ndarray:
        """Centre of projection in the world, [3]."""
        return self.T_world_camera[:3, 3]

    def resized(self, height: int, width: int) -> Camera:
        """The same camera with another number of pixels over the same field of view."""
        sx, sy = width / self.width, height / self.height
        return Camera(
            self.T_world_camera,
            self.fl_x * sx,
            self.fl_y * sy,
            self.cx * sx,
            self.cy * sy,
            width,
            height,
        )


def orbit_camera(
    azimuth_deg: float,
    elevation_deg: float,
    distance: float,
    fov_deg: float,
    height: int,
    width: int,
) -> Camera:
    """A camera that looks at the origin from a sphere around it.

    Azimuth 0 is on the −Y axis (the front of an object) and grows counter-clockwise seen from
    above, so that 90 is on +X; elevation above 0 is above the horizon. `fov_deg` is horizontal.
    """
    az, el = np.radians(azimuth_deg), np.radians(elevation_deg)
    backward = np.array([np.sin(az) * np.cos(el), -np.cos(az) * np.cos(el), np.sin(el)])
    right = np.array([np.cos(az), np.sin(az), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(backward, right), backward], axis=1)
    pose[:3, 3] = distance * backward
    focal = width / 2 / np.tan(np.radians(fov_deg) / 2)
    return Camera(pose, focal, focal, width / 2, height / 2, width, height)


def viewing_angles_deg(camera: Camera) -> tuple[float, float]:
    """Azimuth in [0, 360) and elevation in [−90, 90] from which a camera looks.

    They are those of the reversed viewing direction, so they agree with `orbit_camera` and are
    defined for cameras that do not look at the origin too.
    """
    x, y, z = camera.T_world_camera[:3, 2]
    azimuth = np.degrees(np.arctan2(x, -y))
    elevation = np.degrees(np.arcsin(np.clip(z, -1, 1)))
    return round(float(azimuth), 6) % 360.0, round(float(elevation), 6)


def rigid_pose(matrix: Any, tolerance: float = 1e-3) -> np.ndarray:
    """A camera-to-world matrix as float64 [4, 4], if it is a rotation and a translation.

    Args:
        matrix: nested lists or an array of numbers.
        tolerance: how far the axes may be from orthonormal.

    Raises:
        ValueError: it has another shape, holds NaN, is singular, scaled, skewed or mirrored.
        TypeError: it holds something else than numbers.
    """
    pose = np.asarray(matrix, dtype=np.float64)
    if pose.shape != (4, 4):
        raise ValueError(f"the camera matrix must be 4×4, found shape {pose.shape}")
    if not np.isfinite(pose).all():
        raise ValueError("the camera matrix holds NaN or infinite numbers")
    if np.abs(pose).max() > MAX_LENGTH:
        raise ValueError(f"the camera matrix holds numbers beyond {MAX_LENGTH:g}")
    if abs(np.linalg.det(pose)) < 1e-9:
        raise ValueError("the camera matrix is singular")
    axes = pose[:3, :3]
    if np.abs(axes.T @ axes - np.eye(3)).max() > tolerance or np.linalg.det(axes) < 0:
        raise ValueError(
            "the camera matrix is not a rotation and a translation (it scales, skews or mirrors)"
        )
    if np.abs(pose[3] - [0, 0, 0, 1]).max() > tolerance:
        raise ValueError(f"the last row of the camera matrix must be 0 0 0 1, found {pose[3]}")
    return pose


def camera_to_json(camera: Camera) -> dict[str, Any]:
    """A camera under the keys of nerfstudio's `transforms.json`; inverse of `camera_from_json`."""
    return {
        "fl_x": camera.fl_x, "fl_y": camera.fl_y, "cx": camera.cx, "cy": camera.cy,
        "w": camera.width, "h": camera.height, "transform_matrix": camera.T_world_camera.tolist(),
    }  # fmt: skip


def camera_from_json(values: Mapping[str, Any]) -> Camera:
    """The camera of `camera_to_json`.

    Raises:
        KeyError, TypeError, ValueError: a key is missing or not a number of the right shape.
    """
    return Camera(
        rigid_pose(values["transform_matrix"]),
        float(values["fl_x"]),
        float(values["fl_y"]),
        float(values["cx"]),
        float(values["cy"]),
        int(values["w"]),
        int(values["h"]),
    )
