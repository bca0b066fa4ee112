"""Which posed images share a camera and which a time, whether or not the file says so.

Letters: V cameras, T times, M images. What it does not know: files, pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recon.grid.cameras import Camera
from recon.grid.transforms import PosedImage

DECIMALS = 6  # poses and times that agree so far are the same: JSONs hold rounded numbers


class Views(NamedTuple):
    """Which camera took each image.

    Attributes:
        of_image: index of the camera, [M].
        first: an entry to take each camera from, [V].
        numbers: of the cameras, V of them.
    """

    of_image: np.ndarray
    first: np.ndarray
    numbers: tuple[int, ...]


class Frames(NamedTuple):
    """At which time each image was taken.

    Attributes:
        of_image: index of the time, [M].
        times: in [0, 1], ascending, [T].
        numbers: of the times, T of them.
    """

    of_image: np.ndarray
    times: np.ndarray
    numbers: tuple[int, ...]


def group_views(entries: Sequence[PosedImage], cameras: Sequence[Camera]) -> Views:
    """Groups entries by their `view`, or by camera where no entry has one.

    Raises:
        ValueError: only some have a `view`, or one view has two different cameras.
    """
    poses = np.stack([_camera_numbers(camera) for camera in cameras])
    given = _all_or_none([entry.view for entry in entries], "view")
    if given is None:
        _, first, index = np.unique(
            np.round(poses, DECIMALS) + 0.0, axis=0, return_index=True, return_inverse=True
        )  # + 0.0 makes −0 and 0 one
        order = np.argsort(first)  # cameras in the order in which the file names them
        return Views(np.argsort(order)[index.reshape(-1)], first[order], tuple(range(len(first))))
    numbers, first, index = np.unique(given, return_index=True, return_inverse=True)
    moved = np.abs(poses - poses[first[index]]).max(axis=1) > 10.0 ** (1 - DECIMALS)
    if moved.any():
        raise ValueError(
            f"view {given[int(moved.argmax())]} has two different cameras; give each its own "
            "`view`, or leave `view` out of all frames"
        )
    return Views(index, first, tuple(int(number) for number in numbers))


def _camera_numbers(camera: Camera) -> np.ndarray:
    """What makes cameras equal or different, [20]."""
    intrinsics = (camera.fl_x, camera.fl_y, camera.cx, camera.cy)
    return np.concatenate([camera.T_world_camera.ravel(), intrinsics])


def group_frames(entries: Sequence[PosedImage]) -> Frames:
    """Groups entries by their `time`, by `frame` where no entry has a time, or into one group.

    Raises:
        ValueError: only some have a `time` or `frame`, or the two disagree.
    """
    numbers = _all_or_none([entry.frame for entry in entries], "frame")
    times = _all_or_none([entry.time for entry in entries], "time")
    if times is None:
        times = np.zeros(len(entries)) if numbers is None else numbers / max(numbers.max(), 1)
    _, first, index = np.unique(np.round(times, DECIMALS), return_index=True, return_inverse=True)
    if numbers is None:
        return Frames(index, times[first], tuple(range(len(first))))
    if (numbers != numbers[first[index]]).any() or len(np.unique(numbers)) != len(first):
        raise ValueError("`frame` and `time` disagree: each frame number must have one time")
    return Frames(index, times[first], tuple(int(number) for number in numbers[first]))


def _all_or_none(values: Sequence[float | None], key: str) -> np.ndarray | None:
    missing = sum(value is None for value in values)
    if missing == len(values):
        return None
    if missing:
        raise ValueError(f"`{key}` is missing in {missing} of {len(values)} frames")
    return np.asarray(values)
