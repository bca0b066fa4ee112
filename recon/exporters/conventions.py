"""Conventions of other programs: axes, color encoding, and one file per frame.

The world is right-handed with +Z up and the object's front towards −Y. `y-down` is what 3DGS
readers expect of a PLY (x right, y down, z forward), `y-up` is glTF's (front towards +Z), `z-up`
is the world itself, and `source` the world of the files that the scene was fitted to.
Letters: T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from recon.errors import InputError
from recon.exporters.options import ExportOptions
from recon.exporters.root_motion import RootMotion, scene_root_motion
from recon.film.camera_paths import source_camera
from recon.film.options import check_frames
from recon.gaussians import Gaussians
from recon.rotations import matrices_to_quats, multiply_quats
from recon.scene import Scene
from recon.spherical_harmonics import rotate_sh

AXES = {
    "y-down": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "y-up": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "z-up": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
}
SOURCE_AXES = "source"


def rotation_to(axes: str, R_world_source: np.ndarray | None = None) -> Tensor:
    """Return the rotation from the world to the named axes, float64, [3, 3].

    Args:
        axes: a key of `AXES`, or "source".
        R_world_source: rotation to the world from "source", [3, 3]; None: they are the same.

    Raises:
        InputError: The name is neither in `AXES` nor "source".
    """
    if axes == SOURCE_AXES:
        return torch.from_numpy((np.eye(3) if R_world_source is None else R_world_source).T.copy())
    if axes not in AXES:
        raise InputError(f"unknown axes {axes!r}; expected one of {', '.join(AXES)}, {SOURCE_AXES}")
    return torch.tensor(AXES[axes], dtype=torch.float64)


def rotate_gaussians(gaussians: Gaussians, rotation: Tensor) -> Gaussians:
    """Rotate Gaussians about the origin: means, orientations and view-dependent color.

    Args:
        gaussians: stored parameters.
        rotation: rotation matrix, [3, 3].

    Returns:
        The rotated Gaussians; quaternions keep their length.
    """
    rotation_as_means = rotation.to(gaussians.means)
    sh = rotate_sh(gaussians.sh, rotation) if gaussians.sh_degree > 0 else gaussians.sh
    return gaussians._replace(
        means=gaussians.means @ rotation_as_means.T,
        quats=multiply_quats(matrices_to_quats(rotation_as_means), gaussians.quats),
        sh0=sh[:, :1],
        shN=sh[:, 1:],
    )


def frame_times(scene: Scene, frames: int | None = None) -> np.ndarray:
    """Return the times of an export: the fitted ones, or `frames` times evenly over their span.

    Raises:
        InputError: Several frames are asked for of a scene with one time.
    """
    check_frames(frames, len(scene.times))
    if frames is None:
        return scene.times
    return np.linspace(scene.times[0], scene.times[-1], frames)


def frame_seconds(scene: Scene, times: np.ndarray) -> np.ndarray:
    """Return the presentation time of each frame in seconds; the fitted clip keeps its duration.

    Args:
        scene: its `times` and `fps` define the duration.
        times: times in [0, 1], [T].

    Returns:
        Seconds, ascending from 0, [T].
    """
    span = scene.times[-1] - scene.times[0]
    duration = (len(scene.times) - 1) / scene.fps
    return (times - times[0]) / span * duration if span > 0 else np.zeros(len(times))


def move_gaussians(gaussians: Gaussians, pose: np.ndarray) -> Gaussians:
    """Move Gaussians by a rigid motion, [4, 4]."""
    rotated = rotate_gaussians(gaussians, torch.from_numpy(pose[:3, :3]))
    return rotated._replace(means=rotated.means + torch.from_numpy(pose[:3, 3]).to(rotated.means))


def exported_motion(
    scene: Scene, times: np.ndarray, options: ExportOptions, format: str
) -> RootMotion | None:
    """Return the root motion of an export in the axes of the format; None if it has none.

    Args:
        scene: the scene.
        times: times in [0, 1], [T].
        options: options of the export.
        format: name of the format.

    Raises:
        InputError: A root motion is asked for, but the scene has no source camera.
    """
    if not options.has_root_motion(format):
        return None
    if options.root_motion:
        source_camera(scene)  # raises if there is none
    motion = scene_root_motion(scene, times)
    rotation = rotation_to(options.axes_of(format), scene.R_world_source).numpy()
    return None if motion is None else motion.rotated(rotation)


@torch.no_grad()
def exported_gaussians(
    scene: Scene, times: np.ndarray, options: ExportOptions, format: str
) -> Iterator[Gaussians]:
    """Yield the Gaussians at each time in the axes of a format; arguments as `exported_motion`."""
    rotation = rotation_to(options.axes_of(format), scene.R_world_source)
    motion = exported_motion(scene, times, options, format)
    for frame, time in enumerate(times):
        gaussians = rotate_gaussians(scene.at(float(time)), rotation)
        yield gaussians if motion is None else move_gaussians(gaussians, motion.poses[frame])


def gaussian_files(
    scene: Scene,
    times: np.ndarray,
    options: ExportOptions,
    format: str,
    encode: Callable[[Gaussians], bytes],
    suffix: str | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Yield one file of Gaussians per frame: `frame_0000.SUFFIX` and its content, in order.

    Args:
        scene: the scene.
        times: times in [0, 1], [T].
        options: options of the export.
        format: name of the format.
        encode: encodes Gaussians in the axes of the format to the content of a file.
        suffix: file suffix with its dot; None: the name of the format.
    """
    for frame, gaussians in enumerate(exported_gaussians(scene, times, options, format)):
        yield f"frame_{frame:04d}{suffix or f'.{format}'}", encode(gaussians)
