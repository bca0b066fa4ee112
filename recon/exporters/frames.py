"""Sequences: a scene as one file for each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from recon.exporters.axes import rotate_gaussians, rotation_to
from recon.gaussians import Gaussians
from recon.scene import Scene


def frame_times(scene: Scene, frames: int | None = None) -> np.ndarray:
    """Times of an export: the fitted ones, or `frames` of them from the first to the last."""
    if frames is None:
        return scene.times
    return np.linspace(scene.times[0], scene.times[-1], frames)


def frame_seconds(scene: Scene, times: np.ndarray) -> np.ndarray:
    """When each frame is shown if the whole clip takes as long as the fitted frames do, [T]."""
    span = scene.times[-1] - scene.times[0]
    duration = (len(scene.times) - 1) / scene.fps
    return (times - times[0]) / span * duration if span > 0 else np.zeros(len(times))


def gaussian_files(
    scene: Scene, times: np.ndarray, axes: str, suffix: str, encode: Callable[[Gaussians], bytes]
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of `frame_0000.SUFFIX` and so on, in order.

    Args:
        scene: what to write.
        times: in [0, 1], [T].
        axes: a key of `recon.exporters.axes.AXES`.
        suffix: of the file names, with its dot.
        encode: Gaussians in those axes to the bytes of a file.
    """
    rotation = rotation_to(axes)
    for frame, time in enumerate(times):
        with torch.no_grad():
            gaussians = rotate_gaussians(scene.at(float(time)), rotation)
        yield f"frame_{frame:04d}{suffix}", encode(gaussians)
