"""Camera paths around a scene, with the scene's motion playing in a loop.

The path "source" is the exception: it plays once, as the video that the scene was made of.
Height, distance and field of view are those of the first fitted camera; the center of rotation is
the point that the fitted cameras look at. Letters: F frames, T fitted times. Frame: world, +Z up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from recon.errors import InputError
from recon.film.camera_file import read_camera_file
from recon.film.options import SOURCE, check_camera_path, check_frames, check_view
from recon.grid.cameras import Camera, common_focus
from recon.grid.source_camera import SourceCamera
from recon.scene import Scene

SWING_DEG = 40.0  # largest angle to either side
MIN_SECONDS = 6.0  # minimum duration of a video with a moving camera
DEFAULT_FPS = 24.0


class CameraPath(NamedTuple):
    """F cameras of one image size, with the scene time of each.

    Attributes:
        cameras: F cameras.
        times: times in [0, 1], [F].
        fps: frames per second.
    """

    cameras: list[Camera]
    times: np.ndarray
    fps: float


def plan_camera_path(
    scene: Scene,
    path: str = "orbit",
    fps: float | None = None,
    frames: int | None = None,
    size: int | None = None,
) -> CameraPath:
    """Compute a camera path by name, or read it from a file.

    Args:
        scene: the scene to look at.
        path: a key of `camera_paths`, "fixed:2" for the fitted view 2, "source" for the camera of
            the video that the scene was made of, or the name of a file that `read_camera_file`
            reads.
        fps: frames per second; None: the frame rate of the file or the video, or 24.
        frames: number of frames, F; None: whole loops of the motion that last at least
            `MIN_SECONDS`, one loop for a fixed camera, or the frames of the video for "source".
            Must be None for a file, whose cameras are the frames.
        size: longer side of the images in pixels; None: that of the fitted cameras, the file or
            the video.

    Raises:
        InputError: The path, view or file does not exist, `frames` was given with a file, the scene
            has no source camera, or several `frames` of "source" are asked for of a still scene.
    """
    check_camera_path(path, frames)
    name, _, view = path.partition(":")
    if path == SOURCE:
        planned = _source_path(scene, fps, frames)
    elif name not in camera_paths:
        planned = _path_of_file(scene, path, fps)
    else:
        fps = fps or DEFAULT_FPS
        frames = frames or loop_frames(scene, fps, 0.0 if name == "fixed" else MIN_SECONDS)
        cameras = fixed(scene, frames, int(view)) if view else camera_paths[name](scene, frames)
        planned = CameraPath(cameras, looping_times(scene, frames, fps), fps)
    if size is None:
        return planned
    return planned._replace(cameras=[resized(camera, size) for camera in planned.cameras])


def orbit(scene: Scene, frames: int) -> list[Camera]:
    """Orbit once around the object, starting at the first fitted camera."""
    return _rotated(scene, 360.0 * np.arange(frames) / frames)


def swing(scene: Scene, frames: int) -> list[Camera]:
    """Swing from the first fitted camera to one side, then to the other, and back."""
    return _rotated(scene, SWING_DEG * np.sin(2 * np.pi * np.arange(frames) / frames))


def fixed(scene: Scene, frames: int, view: int = 0) -> list[Camera]:
    """Stay at one of the fitted cameras.

    Raises:
        InputError: The scene has no such view.
    """
    check_view(view, len(scene.cameras))
    return [scene.cameras[view]] * frames


camera_paths: dict[str, Callable[[Scene, int], list[Camera]]] = {
    "orbit": orbit,
    "swing": swing,
    "fixed": fixed,
}


def looping_times(scene: Scene, frames: int, fps: float) -> np.ndarray:
    """Return the scene time of each frame when the motion loops at its own speed.

    Args:
        scene: its `times` and `fps` define the speed.
        frames: number of frames, F.
        fps: frames per second of the video.

    Returns:
        Times in [0, 1], [F]; the last fitted time is held for the mean duration of a frame.
    """
    T = len(scene.times)
    position = np.arange(frames) * scene.fps / fps % T
    return np.interp(position, [0, T - 1], [scene.times[0], scene.times[-1]])


def loop_frames(scene: Scene, fps: float, seconds: float = MIN_SECONDS) -> int:
    """Return the number of frames of the fewest whole loops that last at least `seconds`."""
    loop = len(scene.times) / scene.fps
    loops = max(1, np.ceil(seconds / loop - 1e-9))
    return max(1, round(loops * loop * fps))


def resized(camera: Camera, size: int) -> Camera:
    """Return a camera with `size` pixels along the longer side; sides are even, as for H.264."""
    scale = size / max(camera.height, camera.width)
    height, width = (max(2, 2 * round(n * scale / 2)) for n in (camera.height, camera.width))
    return camera.resized(height, width)


def rotation_center(scene: Scene) -> np.ndarray:
    """Find the point that the fitted cameras look at, [3].

    If they are parallel, it has the depth of the mean of the Gaussians.
    """
    mean = scene.gaussians.means.detach().mean(dim=0).cpu().numpy().astype(np.float64)
    return common_focus(scene.cameras, near=mean)


def _path_of_file(scene: Scene, path: str, fps: float | None) -> CameraPath:
    first = scene.cameras[0]
    found = read_camera_file(path, first.height, first.width, scene.R_world_source)
    fps = fps or found.fps or DEFAULT_FPS
    times = looping_times(scene, len(found.cameras), fps) if found.times is None else found.times
    return CameraPath(found.cameras, np.asarray(times), fps)


def source_camera(scene: Scene) -> SourceCamera:
    """Return the source camera of a scene.

    Raises:
        InputError: The scene has none.
    """
    if scene.source_camera is None:
        raise InputError(
            "the scene does not know the source camera, which is that of its video: its grid was "
            "rendered or filmed, or generated by an older version; in that case generate the grid "
            "and reconstruct the scene again"
        )
    return scene.source_camera


def source_frame_numbers(source: SourceCamera) -> range:
    """Return the numbers of the frames of the video from the first to the last fitted one."""
    return range(source.source_frames[0], source.source_frames[-1] + 1)


def _source_path(scene: Scene, fps: float | None, frames: int | None) -> CameraPath:
    """Play the frames of the video once, or others evenly spaced over the same seconds."""
    source = source_camera(scene)
    check_frames(frames, len(scene.times))
    seconds = (len(scene.times) - 1) / scene.fps
    if fps is None and frames is None:
        numbers = source_frame_numbers(source)
        times, count = np.array([source.time_of(n) for n in numbers]), len(numbers)
    else:
        count = frames or 1 + int(seconds * (fps or scene.fps) + 1e-9)
        end = 1.0 if frames or seconds == 0 else (count - 1) / ((fps or scene.fps) * seconds)
        times = np.linspace(0.0, end, count)
    fps = fps or ((count - 1) / seconds if count > 1 else scene.fps)
    return CameraPath([source.at(float(time)) for time in times], times, fps)


def _rotated(scene: Scene, angles_deg: np.ndarray) -> list[Camera]:
    """Rotate the first fitted camera about the vertical axis through the rotation center."""
    first, center = scene.cameras[0], rotation_center(scene)
    return [
        replace(first, T_world_camera=_rotation(center, angle_rad) @ first.T_world_camera)
        for angle_rad in np.radians(angles_deg)
    ]


def _rotation(center: np.ndarray, angle_rad: float) -> np.ndarray:
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    T = np.eye(4)
    T[:2, :2] = [[cos, -sin], [sin, cos]]
    T[:3, 3] = center - T[:3, :3] @ center
    return T
