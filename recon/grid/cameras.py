"""Pinhole cameras: axes, projection, the common focus of several cameras, JSON.

Frames: world, right-handed, +Z up; camera in OpenGL axes (+X right, +Y up, looking along −Z), as
stored in JSON; camera in OpenCV axes (+X right, +Y down, looking along +Z), as rasterizers expect
it. Pixel coordinates: the center of the first pixel is at (0.5, 0.5). Lengths are in world units;
angles are in degrees where the name says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
MAX_LENGTH = 1e6  # world units; float32 cannot resolve an object that far from the origin
MIN_DEPTH = 1e-6
MAX_FOCUS_CONDITION = 1e4  # reached by two optical axes about 1° apart
DEFAULT_FOCUS_DEPTH = 2.0


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion.

    Attributes:
        T_world_camera: camera-to-world matrix, OpenGL axes, float64, [4, 4].
        fl_x: horizontal focal length in pixels.
        fl_y: vertical focal length in pixels.
        cx: principal point in pixels from the left edge.
        cy: principal point in pixels from the upper edge.
        width: image width in pixels.
        height: image height in pixels.
    """

    T_world_camera: np.ndarray
    fl_x: float
    fl_y: float
    cx: float
    cy: float
    width: int
    height: int

    @cached_property
    def viewmat(self) -> np.ndarray:
        """World-to-camera matrix, OpenCV axes, as rasterizers expect it, float64, [4, 4]."""
        inverse = np.linalg.inv(self.T_world_camera @ OPENGL_FROM_OPENCV)
        inverse.flags.writeable = False  # shared by all who ask
        return inverse

    @property
    def K(self) -> np.ndarray:
        """Intrinsic matrix in pixels, float64, [3, 3]."""
        return np.array([[self.fl_x, 0, self.cx], [0, self.fl_y, self.cy], [0, 0, 1.0]])

    @property
    def position(self) -> np.ndarray:
        """Center of projection in world coordinates, [3]."""
        return self.T_world_camera[:3, 3]

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Project world points into the image.

        Args:
            points: world coordinates, [..., 3].

        Returns:
            Pixel coordinates (x to the right, y down), [..., 2], and depths along the optical
            axis, [...]. Points at or behind the camera have no image: their pixel coordinates are
            NaN.
        """
        viewmat = self.viewmat
        x, y, depth = np.moveaxis(points @ viewmat[:3, :3].T + viewmat[:3, 3], -1, 0)
        z = np.where(depth > MIN_DEPTH, depth, np.nan)
        return np.stack([self.fl_x * x / z + self.cx, self.fl_y * y / z + self.cy], axis=-1), depth

    def padded(self, height: int, width: int) -> Camera:
        """Return the camera of the image in the middle of a larger one, see `pad_offsets`."""
        top, left = pad_offsets((self.height, self.width), (height, width))
        return replace(self, cx=self.cx + left, cy=self.cy + top, width=width, height=height)

    def resized(self, height: int, width: int) -> Camera:
        """Return the camera with another image size and the same field of view."""
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


def pad_offsets(size: tuple[int, int], padded: tuple[int, int]) -> tuple[int, int]:
    """Return the rows above and the columns left of an image in the middle of a larger one.

    Args:
        size: height and width in pixels.
        padded: those of the larger image.
    """
    return (padded[0] - size[0]) // 2, (padded[1] - size[1]) // 2


def orbit_camera(
    azimuth_deg: float,
    elevation_deg: float,
    distance: float,
    fov_deg: float,
    height: int,
    width: int,
) -> Camera:
    """Place a camera on a sphere around the origin, looking at the origin.

    Args:
        azimuth_deg: 0 is on the −Y axis (the front of an object); angles grow counter-clockwise
            seen from above, so that 90 is on +X.
        elevation_deg: angle above the horizon, in [−90, 90].
        distance: distance from the origin in world units.
        fov_deg: horizontal field of view, in (0, 180).
        height: image height in pixels.
        width: image width in pixels.
    """
    az, el = np.radians(azimuth_deg), np.radians(elevation_deg)
    backward = np.array([np.sin(az) * np.cos(el), -np.cos(az) * np.cos(el), np.sin(el)])
    right = np.array([np.cos(az), np.sin(az), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(backward, right), backward], axis=1)
    pose[:3, 3] = distance * backward
    focal = width / 2 / np.tan(np.radians(fov_deg) / 2)
    return Camera(pose, focal, focal, width / 2, height / 2, width, height)


def common_focus(cameras: Sequence[Camera], near: np.ndarray | None = None) -> np.ndarray:
    """Find the point that cameras look at: the point nearest to all optical axes.

    A single axis, or axes that are parallel within about 1°, have no unique such point. Then it is
    a point on their mean axis.

    Args:
        cameras: V ≥ 1 cameras.
        near: point whose depth the focus takes if the axes are parallel, [3]; None: the focus is
            `DEFAULT_FOCUS_DEPTH` world units in front of the cameras.

    Returns:
        World coordinates, [3].
    """
    origins = np.stack([camera.position for camera in cameras])
    axes = -np.stack([camera.T_world_camera[:3, 2] for camera in cameras])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]  # projections onto the normal planes
    normal_matrix = across.sum(0)
    if np.linalg.cond(normal_matrix) < MAX_FOCUS_CONDITION:
        return np.linalg.solve(normal_matrix, (across @ origins[:, :, None]).sum(0)[:, 0])
    origin, axis = origins.mean(0), axes.mean(0)
    depth = DEFAULT_FOCUS_DEPTH if near is None else axis @ (near - origin)
    return origin + depth * axis


def viewing_angles_deg(camera: Camera) -> tuple[float, float]:
    """Return the azimuth in [0, 360) and the elevation in [−90, 90] of a camera.

    They are those of the reversed viewing direction, so they agree with `orbit_camera` and are
    also defined for cameras that do not look at the origin.
    """
    x, y, z = camera.T_world_camera[:3, 2]
    azimuth = np.degrees(np.arctan2(x, -y))
    elevation = np.degrees(np.arcsin(np.clip(z, -1, 1)))
    return round(float(azimuth), 6) % 360.0, round(float(elevation), 6)


def rigid_pose(matrix: Any, tolerance: float = 1e-3) -> np.ndarray:
    """Read a camera-to-world matrix as a rotation and a translation.

    A homogeneous matrix means the same after multiplication by a number, and the lengths of its
    axes say nothing about a camera; both are normalized.

    Args:
        matrix: nested lists or an array of numbers, [4, 4] or [3, 4], or 16 or 12 of them row by
            row. A matrix of columns, whose last column is 0 0 0 w, is transposed.
        tolerance: largest deviation from orthogonal axes.

    Returns:
        A rigid transform, float64, [4, 4].

    Raises:
        ValueError: the matrix has another shape, contains NaN, is singular, skewed or mirrored.
        TypeError: the matrix contains values that are not numbers.
    """
    pose = _homogeneous(np.asarray(matrix, dtype=np.float64))
    axes = pose[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if lengths.min() < 1e-9 * max(lengths.max(), 1e-9):
        raise ValueError("expected an invertible camera matrix, found a singular one")
    axes = axes / lengths
    if np.abs(axes.T @ axes - np.eye(3)).max() > tolerance:
        raise ValueError(
            "expected a camera matrix of a rotation and a translation, found one that skews"
        )
    if np.linalg.det(axes) < 0:
        raise ValueError(
            "expected a camera matrix of a rotation and a translation, found one that mirrors; "
            "convert the cameras to a right-handed world"
        )
    if np.abs(pose[:3, 3]).max() > MAX_LENGTH:
        raise ValueError(
            f"expected camera positions within {MAX_LENGTH:g} world units, found "
            f"{np.abs(pose[:3, 3]).max():g}; scale the cameras down"
        )
    if np.abs(lengths - 1).max() > tolerance:  # exact axes are kept to the last bit
        pose[:3, :3] = axes
    return pose


def _homogeneous(matrix: np.ndarray) -> np.ndarray:
    """Bring a camera matrix to the shape [4, 4] and its last row to 0 0 0 1."""
    if matrix.shape in ((16,), (12,)):
        matrix = matrix.reshape(-1, 4)
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0, 0, 0, 1]])
    if matrix.shape != (4, 4):
        raise ValueError(f"the camera matrix must be 4×4 or 3×4, found shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("the camera matrix contains NaN or infinite numbers")
    if not _ends_in_zeros(matrix[3]) and _ends_in_zeros(matrix[:, 3]):
        matrix = matrix.T
    if not _ends_in_zeros(matrix[3]):
        raise ValueError(f"the last row of the camera matrix must be 0 0 0 1, found {matrix[3]}")
    if matrix[3, 3] == 0:
        raise ValueError("expected an invertible camera matrix, found a singular one")
    return matrix if matrix[3, 3] == 1 else matrix / matrix[3, 3]


def _ends_in_zeros(row: np.ndarray, tolerance: float = 1e-3) -> bool:
    """Return whether a row is 0 0 0 w, up to rounding."""
    return bool(np.abs(row[:3]).max() <= tolerance * abs(row[3]))


def camera_to_json(camera: Camera) -> dict[str, Any]:
    """Convert a camera to the keys of nerfstudio's `transforms.json`."""
    return {
        "fl_x": camera.fl_x, "fl_y": camera.fl_y, "cx": camera.cx, "cy": camera.cy,
        "w": camera.width, "h": camera.height, "transform_matrix": camera.T_world_camera.tolist(),
    }  # fmt: skip


def camera_from_json(values: Mapping[str, Any]) -> Camera:
    """Convert the output of `camera_to_json` back to a camera.

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
