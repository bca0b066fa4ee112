"""Render a scene along a camera path, to an H.264 video, a GIF or a folder of PNG files.

Letters: F frames, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from recon.film.camera_paths import CameraPath, plan_camera_path
from recon.film.compositing import SourceVideo, render_over_video, render_rgba
from recon.film.options import check_video_options
from recon.grid.cameras import Camera
from recon.media import GIF_MAX_FPS, write_gif, write_png, write_video
from recon.output import check_output, check_output_file, output_file, output_folder
from recon.progress import Eta, OnStep, Progress, ignore_progress
from recon.scene import Scene


def render_video(
    scene: Scene,
    output: str | Path,
    path: str = "orbit",
    fps: float | None = None,
    frames: int | None = None,
    size: int | None = None,
    on_step: OnStep = ignore_progress,
    overwrite: bool = False,
    *,
    over: str | Path | None = None,
    transparent: bool = False,
) -> CameraPath:
    """Render a video in which camera and time move together.

    Example:
        >>> scene = load_scene("out/scene")
        >>> render_video(scene, "out/orbit.mp4")
        >>> render_video(scene, "out/view_2.gif", path="fixed:2", size=320)
        >>> render_video(scene, "out/over.mp4", path="source", over="robot.mp4")

    Args:
        scene: the scene; it is rendered on its device.
        output: .mp4, .gif, or a name without a suffix for a folder of PNG files.
        path: "orbit", "swing", "fixed", "fixed:VIEW" with the index of a fitted view, "source" for
            the camera of the video that the scene was made of, or a camera file as
            `recon.film.camera_file.read_camera_file` reads it.
        fps: see `recon.film.camera_paths.plan_camera_path`; of a GIF at most 50, with which faster
            ones play.
        frames: see `recon.film.camera_paths.plan_camera_path`.
        size: longer side of the images in pixels; None: that of the fitted views, the camera file
            or the video.
        on_step: called after every frame.
        overwrite: whether an existing file or folder is replaced.
        over: the video that the scene was made of, or its folder of images, to draw over; with the
            path "source" and the video's own frames.
        transparent: whether the PNG files have an alpha channel instead of the background.

    Returns:
        The rendered cameras with their times and frame rate.

    Raises:
        InputError: The camera path, view, camera file or video does not exist or is not valid, the
            suffix of the output is not supported, or options contradict each other.
        OutputError: The output exists.
        OSError: The output cannot be written.
    """
    output = Path(output)
    check_video_options(output, path, fps, frames, over, transparent)
    check_video_output(output, overwrite)
    is_gif = output.suffix.lower() == ".gif"
    if is_gif and fps is not None:
        fps = min(fps, GIF_MAX_FPS)
    planned = plan_camera_path(scene, path, fps, frames, size)
    if is_gif:  # the rate of a camera file or a video can be higher, too
        planned = planned._replace(fps=min(planned.fps, GIF_MAX_FPS))
    if over is not None:
        rendered = render_over_video(scene, planned, SourceVideo(scene, over))
    elif transparent:
        pairs = zip(planned.cameras, planned.times, strict=True)
        rendered = (render_rgba(scene, camera, float(time)) for camera, time in pairs)
    else:
        rendered = render_frames(scene, planned.cameras, planned.times)
    images = _with_progress(rendered, len(planned.cameras), on_step)
    place = output_file if output.suffix else output_folder
    with place(output, overwrite) as partial:
        _writers[output.suffix.lower()](partial, images, planned.fps)
    return planned


def check_video_output(path: str | Path, overwrite: bool = False) -> None:
    """Check, before long work, that `render_video` can write to a path.

    Raises:
        OutputError: The output exists, or cannot be created.
    """
    path = Path(path)
    check = check_output_file if path.suffix else check_output
    check(path, overwrite)


def render_frames(
    scene: Scene,
    cameras: Sequence[Camera],
    times: Sequence[float] | np.ndarray,
    background: Sequence[float] | None = None,
) -> Iterator[np.ndarray]:
    """Render one image per camera and time.

    Args:
        scene: the scene; it is rendered on its device.
        cameras: F cameras.
        times: F times in [0, 1].
        background: sRGB in [0, 1]; None: the scene's.

    Yields:
        F images, sRGB, uint8, [H, W, 3].
    """
    for camera, time in zip(cameras, times, strict=True):
        yield scene.render(camera, float(time), background)


def _with_progress(
    images: Iterable[np.ndarray], count: int, on_step: OnStep
) -> Iterator[np.ndarray]:
    eta = Eta(count)
    for done, image in enumerate(images, start=1):
        yield image
        eta.tick()
        on_step(Progress("frames", done, count, eta.seconds_left))


def _write_pngs(path: Path, images: Iterable[np.ndarray], fps: float) -> None:
    for index, image in enumerate(images):
        write_png(path / f"frame_{index:04d}.png", image)


_writers: dict[str, Callable[[Path, Iterable[np.ndarray], float], None]] = {
    ".mp4": write_video,
    ".gif": write_gif,
    "": _write_pngs,
}
