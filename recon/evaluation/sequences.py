"""Sequences of one file per frame, of Gaussians or meshes, seen by the cameras of the truth.

    file of a frame ──▶ Frame ──draw──▶ image of a camera

A placement moves the cameras instead of what the files show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from recon.evaluation.matching import matching_files
from recon.grid import Camera, Grid


class Placement(NamedTuple):
    """The similarity x' = s R x + o of world coordinates, where R turns about the up axis (+Z).

    Attributes:
        scale: s, positive.
        yaw_deg: angle of R, counter-clockwise seen from above.
        offset: o in world units, [3].
    """

    scale: float = 1.0
    yaw_deg: float = 0.0
    offset: np.ndarray = np.zeros(3)

    @property
    def rotation(self) -> np.ndarray:
        """R, float64, [3, 3]."""
        cos, sin = math.cos(math.radians(self.yaw_deg)), math.sin(math.radians(self.yaw_deg))
        return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])

    def points(self, points: np.ndarray) -> np.ndarray:
        """Map points, [..., 3]."""
        return self.scale * points @ self.rotation.T + self.offset

    def camera(self, camera: Camera) -> Camera:
        """Return the camera that sees the unmoved world as this one sees the moved world."""
        pose = camera.T_world_camera.copy()
        pose[:3, :3] = self.rotation.T @ pose[:3, :3]
        pose[:3, 3] = self.rotation.T @ (pose[:3, 3] - self.offset) / self.scale
        return replace(camera, T_world_camera=pose)


class Frame(Protocol):
    """What one file shows, with the up axis of the truth."""

    def samples(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw points of the object, evenly over its surface, [count, 3]."""
        ...

    def draw(self, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Render rgb over white [H, W, 3] and alpha [H, W], in [0, 1]."""
        ...


class FrameFiles(NamedTuple):
    """The files of a sequence and how they are read.

    Attributes:
        files: one file per frame of the truth, or fewer, for its first frames.
        kind: what a file is, for messages.
        read: reads a file.
        low_pass: whether drawing widens what is seen by a part of a pixel, as rasterizers of
            Gaussians do, so that a small image differs from the average of a large one.
    """

    files: Sequence[Path]
    kind: str
    read: Callable[[Path], Frame]
    low_pass: bool


def sequence_renderings(
    sequence: FrameFiles, truth: Grid, placement: Placement | None = None
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield index, rgb over white and alpha of the renderings for all images of the truth.

    Args:
        sequence: the files.
        truth: the ground truth.
        placement: how the sequence is moved; None: not.

    Raises:
        InputError: there are more files than frames, or one cannot be read.
    """
    for path, indices in matching_files(sequence.files, truth, sequence.kind):
        frame = sequence.read(path)
        for index in indices:
            camera = truth.camera_of(index)
            yield int(index), *frame.draw(camera if placement is None else placement.camera(camera))
