"""Which way is up in the world of other programs, and the rotation to ours (+Z up).

The horizontal axes of cameras that are held level are perpendicular to "up", from wherever they
look; so up is the direction to which all of them are nearly perpendicular. Letters: V cameras.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recon.errors import InputError
from recon.grid.cameras import Camera

AXES = {
    "x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1),
    "-x": (-1, 0, 0), "-y": (0, -1, 0), "-z": (0, 0, -1),
}  # fmt: skip
SNAP_DEG = 15.0  # a guess this near to an axis is that axis
MIN_SPREAD = 0.02  # second eigenvalue, in [0, 0.5]: about 16° between two groups of cameras
MAX_ROLL = 0.25  # smallest eigenvalue against the second one; more: the cameras are not level
MIN_MEAN_UP = 0.5  # length of the mean upward axis, below which cameras stand in all directions
MIN_LEVEL_UP = 0.25  # the same for level cameras, which may look down steeply

_log = logging.getLogger(__name__)


class UpGuess(NamedTuple):
    """The direction that cameras take for up.

    Attributes:
        axis: a key of `AXES`; None if the direction is along none of them.
        direction: unit vector in the cameras' world, [3].
    """

    axis: str | None
    direction: np.ndarray


def guess_up(cameras: Sequence[Camera]) -> UpGuess | None:
    """Guess which way is up in the world of cameras; None if they stand in all directions.

    Args:
        cameras: V ≥ 1 cameras.
    """
    axes = np.stack([camera.T_world_camera[:3, :3] for camera in cameras])
    right, mean_up = axes[:, :, 0], axes[:, :, 1].mean(axis=0)
    values, vectors = np.linalg.eigh(right.T @ right / len(right))
    is_level = values[1] >= MIN_SPREAD and values[0] <= MAX_ROLL * values[1]
    direction = vectors[:, 0] * np.sign(vectors[:, 0] @ mean_up) if is_level else mean_up
    if direction @ mean_up < (MIN_LEVEL_UP if is_level else MIN_MEAN_UP) ** 2:
        return None
    direction = direction / np.linalg.norm(direction)
    name = max(AXES, key=lambda key: float(np.dot(AXES[key], direction)))
    angle_deg = np.degrees(np.arccos(np.clip(np.dot(AXES[name], direction), -1, 1)))
    # The upward axes of cameras of one azimuth lean by their elevation, so they only say which
    # axis is the nearest.
    if angle_deg <= (SNAP_DEG if is_level else 45.0):
        return UpGuess(name, np.array(AXES[name], dtype=np.float64))
    return UpGuess(None, direction) if is_level else None


def rotation_from_up(up: str | np.ndarray) -> np.ndarray:
    """Return the smallest rotation that turns a direction to +Z, float64, [3, 3].

    Args:
        up: a key of `AXES`, or a unit vector, [3].

    Raises:
        InputError: the name is unknown.
    """
    if isinstance(up, str):
        if up not in AXES:
            raise InputError(f"unknown axis {up!r}; expected one of auto, {', '.join(AXES)}")
        up = np.array(AXES[up], dtype=np.float64)
    x, y, z = up
    if z < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    # Rodrigues' formula about up × (0, 0, 1)
    return (
        np.array(
            [
                [1 - x * x / (1 + z), -x * y / (1 + z), -x],
                [-x * y / (1 + z), 1 - y * y / (1 + z), -y],
                [x, y, z],
            ]
        )
        + 0.0
    )  # no −0


def rotation_of_grid(cameras: Sequence[Camera], up: str) -> np.ndarray:
    """Return the rotation to a world with +Z up, by name or by a guess from cameras, [3, 3].

    Args:
        cameras: V ≥ 1 cameras in their own world.
        up: a key of `AXES`, or "auto" for a guess.

    Raises:
        InputError: the name is unknown.
    """
    if up != "auto":
        return rotation_from_up(up)
    guess = guess_up(cameras)
    if guess is None:
        _log.warning(
            "the cameras do not show which way is up; +Z is assumed, state it with --up if "
            "the result lies on its side"
        )
        return np.eye(3)
    if guess.axis == "z":
        return np.eye(3)
    found = guess.axis or "(" + ", ".join(f"{value:.2f}" for value in guess.direction) + ")"
    _log.warning(
        "the cameras take %s for up; the grid is rotated to +Z up (state it with --up, or keep the "
        "world with --up z)",
        found,
    )
    return rotation_from_up(guess.direction)


def rotation_matrix(values: Any) -> np.ndarray:
    """Check that nested lists or an array are a rotation; return it as float64, [3, 3].

    Raises:
        ValueError: they are not.
        TypeError: they are not numbers.
    """
    matrix = np.asarray(values, dtype=np.float64)
    if (
        matrix.shape != (3, 3)
        or not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
        or np.linalg.det(matrix) < 0
    ):
        raise ValueError(f"expected a 3×3 rotation, found {matrix.tolist()}")
    return matrix


def rotated(camera: Camera, rotation: np.ndarray) -> Camera:
    """Rotate a camera about the world's origin by a matrix, [3, 3]."""
    T = np.eye(4)
    T[:3, :3] = rotation
    return Camera(
        T @ camera.T_world_camera,
        camera.fl_x, camera.fl_y, camera.cx, camera.cy, camera.width, camera.height,
    )  # fmt: skip
