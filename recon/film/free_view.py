"""Free views of a scene: cameras that move while time passes, and the frames they see.

A path is built around the fitted cameras: they fix the height, the distance, the field of view and
the point that is looked at. Letters: F frames of the film, T fitted times, H × W pixels. Frame:
world, +Z up. What it does not know: how films are written (`recon.film.writing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from recon.errors import InputError
from recon.film.camera_path import read_camera_path
from recon.grid.cameras import Camera, common_focus
from recon.rendering import render_gaussians
from recon.scene import Scene

SWING_DEG = 40.0  # to either side
LEAST_SECONDS = 6.0  # of a path that moves; a clip of two seconds is too short to look around
DEFAULT_FPS = 24.0


class Shot(NamedTuple):
    """What is filmed.

    Attributes:
        cameras: F of them, all of one size.
        times: in [0, 1], [F].
        fps: frames a second.
    """

    cameras: list[Camera]
    times: np.ndarray
    fps: float


def plan_shot(
    scene: Scene,
    path: str = "orbit",
    fps: float | None = None,
    frames: int | None = None,
    size: int | None = None,
) -> Shot:
    """A film of a scene from a few words.

    Args:
        scene: what is filmed.
        path: a key of `camera_paths`, "fixed:2" for the fitted view 2, or the name of a file that
            `read_camera_path` understands.
        fps: frames a second; if None, those of the file, or 24.
        frames: F; if None, as many as whole clips of `LEAST_SECONDS` take, or one clip where the
            camera stands still. A file says itself how many.
        size: pixels along the longer side; if None, as the fitted cameras or the file have.

    Raises:
        InputError: there is no such path, view or file, or `frames` was given with a file.
    """
    name, _, view = path.partition(":")
    if name not in camera_paths:
        shot = _shot_of_file(scene, path, fps, frames)
    else:
        fps = fps or DEFAULT_FPS
        frames = frames or frames_of_loops(scene, fps, 0.0 if name == "fixed" else LEAST_SECONDS)
        cameras = fixed(scene, frames, _number(view)) if view else camera_paths[name](scene, frames)
        shot = Shot(cameras, looping_times(scene, frames, fps), fps)
    return shot if size is None else shot._replace(cameras=resized(shot.cameras, size))


def orbit(scene: Scene, frames: int) -> list[Camera]:
    """One full turn around the object, beginning and ending at the first fitted camera."""
    return _turned(scene, 360.0 * np.arange(frames) / frames)


def swing(scene: Scene, frames: int) -> list[Camera]:
    """To one side of the first fitted camera, to the other and back."""
    return _turned(scene, SWING_DEG * np.sin(2 * np.pi * np.arange(frames) / frames))


def fixed(scene: Scene, frames: int, view: int = 0) -> list[Camera]:
    """One of the fitted cameras, standing still.

    Raises:
        InputError: the scene has no such view.
    """
    if not 0 <= view < len(scene.cameras):
        raise InputError(f"view {view} was asked for; the scene has 0 to {len(scene.cameras) - 1}")
    return [scene.cameras[view]] * frames


camera_paths: dict[str, Callable[[Scene, int], list[Camera]]] = {
    "orbit": orbit,
    "swing": swing,
    "fixed": fixed,
}


def looping_times(scene: Scene, frames: int, fps: float) -> np.ndarray:
    """Times at which the clip plays again and again at its own speed.

    Args:
        scene: its `times` and `fps` say how fast that is.
        frames: F.
        fps: frames a second of the film.

    Returns:
        In [0, 1], [F]; between two fitted times where `fps` is above the scene's.
    """
    T = len(scene.times)
    position = np.arange(frames) * scene.fps / fps % T
    return np.interp(position, np.arange(T), scene.times)


def frames_of_loops(scene: Scene, fps: float, seconds: float = LEAST_SECONDS) -> int:
    """Number of frames of as many whole clips as last at least `seconds`."""
    clip = len(scene.times) / scene.fps
    clips = max(1, np.ceil(seconds / clip - 1e-9))
    return max(1, round(clips * clip * fps))


def resized(cameras: Sequence[Camera], size: int) -> list[Camera]:
    """The same views with `size` pixels along the longer side; even sides, as H.264 wants them."""
    return [_resized(camera, size) for camera in cameras]


def free_view_frames(
    scene: Scene,
    cameras: Sequence[Camera],
    times: Sequence[float] | np.ndarray,
    background: Sequence[float] | None = None,
) -> Iterator[np.ndarray]:
    """The frames of a film, one by one.

    Args:
        scene: on the device on which it is to be drawn.
        cameras: F of them.
        times: in [0, 1], F of them.
        background: sRGB in [0, 1]; the scene's own if None.

    Yields:
        F images, sRGB, uint8, [H, W, 3].
    """
    colour = scene.background if background is None else background
    for camera, time in zip(cameras, times, strict=True):
        with torch.no_grad():
            rgb = render_gaussians(scene.at(float(time)), [camera], colour).rgb[0]
        yield (rgb.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def pivot(scene: Scene) -> np.ndarray:
    """Find the point that the fitted cameras look at, [3].

    If they all look the same way, it is as deep as the mean of the Gaussians.
    """
    middle = scene.gaussians.means.detach().mean(dim=0).cpu().numpy().astype(np.float64)
    return common_focus(scene.cameras, near=middle)


def _shot_of_file(scene: Scene, path: str, fps: float | None, frames: int | None) -> Shot:
    if frames is not None:
        raise InputError("a camera file says itself how many frames there are; leave `frames` out")
    first = scene.cameras[0]
    found = read_camera_path(path, first.height, first.width)
    fps = fps or found.fps or DEFAULT_FPS
    times = looping_times(scene, len(found.cameras), fps) if found.times is None else found.times
    return Shot(found.cameras, np.asarray(times), fps)


def _number(view: str) -> int:
    if not view.isdecimal():
        raise InputError(f"expected the number of a view after the colon, found {view!r}")
    return int(view)


def _turned(scene: Scene, angles_deg: np.ndarray) -> list[Camera]:
    """The first fitted camera, turned about the vertical axis through the pivot."""
    first, centre = scene.cameras[0], pivot(scene)
    return [
        replace(first, T_world_camera=_turn(first.T_world_camera, centre, angle_rad))
        for angle_rad in np.radians(angles_deg)
    ]


def _turn(pose: np.ndarray, centre: np.ndarray, angle_rad: float) -> np.ndarray:
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    turn = np.eye(4)
    turn[:2, :2] = [[cos, -sin], [sin, cos]]
    turn[:3, 3] = centre - turn[:3, :3] @ centre
    return turn @ pose


def _resized(camera: Camera, size: int) -> Camera:
    scale = size / max(camera.height, camera.width)
    height, width = (max(2, 2 * round(n * scale / 2)) for n in (camera.height, camera.width))
    return camera.resized(height, width)
