"""Grouping posed images by camera and by time.

Letters: V cameras, T times, M images.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recon.grid.cameras import Camera
from recon.grid.transforms import PosedImage

DECIMALS = 6  # poses and times are compared after rounding, as JSON files contain rounded numbers

_log = logging.getLogger(__name__)


class Views(NamedTuple):
    """Images grouped by camera.

    Attributes:
        of_image: index of each image's camera, [M].
        first: index of the first image of each camera, [V].
        numbers: view number of each camera in the JSON, V of them.
    """

    of_image: np.ndarray
    first: np.ndarray
    numbers: tuple[int, ...]


class Frames(NamedTuple):
    """Images grouped by time.

    Attributes:
        of_image: index of each image's time, [M].
        times: times in [0, 1], ascending, [T].
        numbers: frame number of each time in the JSON, T of them.
    """

    of_image: np.ndarray
    times: np.ndarray
    numbers: tuple[int, ...]


def group_views(entries: Sequence[PosedImage], cameras: Sequence[Camera]) -> Views:
    """Group entries by their `view`, or by camera if no entry has one.

    Raises:
        ValueError: some entries lack a `view`, or one view has two different cameras.
    """
    poses = np.stack([_camera_numbers(camera) for camera in cameras])
    given = _all_or_none([entry.view for entry in entries], "view")
    if given is None:
        _, first, index = np.unique(
            np.round(poses, DECIMALS) + 0.0, axis=0, return_index=True, return_inverse=True
        )  # + 0.0 makes −0 and 0 one
        order = np.argsort(first)  # cameras in their order in the JSON
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
    """Return pose and intrinsics of a camera as numbers, [20]."""
    intrinsics = (camera.fl_x, camera.fl_y, camera.cx, camera.cy)
    return np.concatenate([camera.T_world_camera.ravel(), intrinsics])


def group_frames(entries: Sequence[PosedImage], views: np.ndarray) -> Frames:
    """Group entries by their `time`, by `frame` if no entry has a time, or into one group.

    Args:
        entries: M images.
        views: index of the camera of each image, [M]; without times and frames, several images of
            one camera are frames in the order of the number in their names.

    Raises:
        ValueError: some entries lack a `time` or `frame`, or the two disagree; or a camera has
            several images whose order is not known.
    """
    numbers = _all_or_none([entry.frame for entry in entries], "frame")
    times = _all_or_none([entry.time for entry in entries], "time")
    if times is None and numbers is None:
        numbers = _frames_without_times(entries, views)
    if times is None:
        times = np.zeros(len(entries)) if numbers is None else numbers / max(numbers.max(), 1)
    _, first, index = np.unique(np.round(times, DECIMALS), return_index=True, return_inverse=True)
    if numbers is None:
        return Frames(index, times[first], tuple(range(len(first))))
    if (numbers != numbers[first[index]]).any() or len(np.unique(numbers)) != len(first):
        raise ValueError("`frame` and `time` disagree: each frame number must have one time")
    return Frames(index, times[first], tuple(int(number) for number in numbers[first]))


def _frames_without_times(entries: Sequence[PosedImage], views: np.ndarray) -> np.ndarray | None:
    """Return frame numbers from the names of images, [M]; None if each camera has one image."""
    if len(np.unique(views)) == len(entries):
        if len(entries) > 1:
            _log.warning(
                "no `time` in the JSON: all %d images are taken as one moment; if the object "
                "moves, give each image its `time` in [0, 1]",
                len(entries),
            )
        return None
    numbers = _numbers_in_names([entry.file_path for entry in entries], views)
    if numbers is None:
        count = int(np.bincount(views).max())
        raise ValueError(
            f"{count} images have the same camera and no `time`; give each image its `time` in "
            "[0, 1] (or its `frame`), or a camera of its own"
        )
    _log.warning(
        "no `time` in the JSON: images of one camera are taken as frames in the order of the "
        "number in their names, evenly spaced",
    )
    return np.unique(numbers, return_inverse=True)[1].reshape(-1)


def _numbers_in_names(names: Sequence[str], views: np.ndarray) -> np.ndarray | None:
    """Return the only number of the names that differs between the images of every camera, [M]."""
    texts = [re.findall(r"\d+", name) for name in names]
    if len({len(text) for text in texts}) != 1:
        return None
    table = np.array([[int(number[-18:]) for number in text] for text in texts], dtype=np.int64)
    fitting = [
        column
        for column in table.T
        if len(np.unique(np.stack([views, column]), axis=1).T) == len(names)
    ]
    same = len(fitting) > 0 and all((column == fitting[0]).all() for column in fitting)
    return fitting[0] if same else None


def _all_or_none(values: Sequence[float | None], key: str) -> np.ndarray | None:
    missing = sum(value is None for value in values)
    if missing == len(values):
        return None
    if missing:
        raise ValueError(
            f"`{key}` is missing in {missing} of {len(values)} frames; give it to all or to none"
        )
    return np.asarray(values)
