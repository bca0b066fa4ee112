"""Which image belongs to which true image: cameras by pose, frames by number or by time.

Letters: T true frames, n frames of a clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from recon.errors import InputError
from recon.grid import Camera, Grid

SAME_ANGLE_DEG = 1.0
SAME_POSITION = 0.01  # relative to the distance of the true camera from the common focus
SAME_TIME = 1e-3
SAME_FOCAL = 0.01  # relative
SAME_RATE = 0.01  # relative


def matching_image(grid: Grid, camera: Camera, time: float, focus: np.ndarray) -> int | None:
    """Return the index of the image with the given camera and time; None if there is none.

    Args:
        grid: the images to search.
        camera: the true camera.
        time: the true time in [0, 1].
        focus: common focus of the true cameras, [3]; the distance to it is the unit of positions.
    """
    views = {v for v, other in enumerate(grid.cameras) if same_camera(other, camera, focus)}
    for index in range(len(grid)):
        if grid.view[index] in views and abs(grid.time_of(index) - time) <= SAME_TIME:
            return index
    return None


def same_camera(camera: Camera, truth: Camera, focus: np.ndarray) -> bool:
    """Return whether two cameras see the same picture: pose and focal length agree."""
    turn = camera.T_world_camera[:3, :3].T @ truth.T_world_camera[:3, :3]
    angle_deg = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    moved = np.linalg.norm(camera.position - truth.position)
    zoomed = abs(camera.fl_x / truth.fl_x - 1)
    return bool(
        angle_deg <= SAME_ANGLE_DEG
        and moved <= SAME_POSITION * float(np.linalg.norm(truth.position - focus))
        and zoomed <= SAME_FOCAL
    )


def matching_frames(
    n: int, fps: float, truth: Grid, name: str, *, rate_known: bool = True
) -> tuple[np.ndarray, str | None]:
    """Find the frame of a clip that belongs to each true frame.

    Clips of as many frames as the truth are matched by number, and so are folders of images with
    fewer, which then are the first ones. Others must last as long, within the time of a true frame,
    and are matched by time.

    Args:
        n: number of frames of the clip.
        fps: its frames per second.
        truth: the ground truth.
        name: name of the clip for messages.
        rate_known: whether the clip has a frame rate; a folder of images has none.

    Returns:
        Index of the frame for each true frame, [T] or [n] for the first n, and a sentence that says
        what was done; None if both have the same frames at the same rate.

    Raises:
        InputError: the clip has other frames and lasts longer or shorter.
    """
    T = truth.T
    if n == T:
        same = not rate_known or T == 1 or abs(fps / truth.fps - 1) <= SAME_RATE
        note = f"{name} has {fps:g} frames per second, the truth {truth.fps:g}: matched by number"
        return np.arange(T), None if same else note
    if not rate_known and n < T:
        return np.arange(n), f"{name} has the first {n} of the {T} frames of the truth"
    seconds, true_seconds = n / fps, T / truth.fps
    if not rate_known or abs(seconds - true_seconds) > 1 / truth.fps:
        lasts = f" in {seconds:.2f} s" if rate_known else ""
        raise InputError(
            f"{name}: expected the {T} frames of the truth, or any number in its "
            f"{true_seconds:.2f} s, found {n}{lasts}"
        )
    at = truth.times * (T - 1) / truth.fps
    indices = np.clip(np.rint(at * fps).astype(int), 0, n - 1)
    return indices, f"{name} has {n} frames, the truth {T}: matched by time, the nearest frame"


def matching_files(
    files: Sequence[Path], truth: Grid, kind: str
) -> Iterator[tuple[Path, np.ndarray]]:
    """Yield each file of a sequence with the indices of the true images of its frame.

    Args:
        files: one file per frame of the truth, or fewer, for its first frames.
        truth: the ground truth.
        kind: what a file is, for messages.

    Raises:
        InputError: there are more files than frames.
    """
    if len(files) > truth.T:
        raise InputError(
            f"{files[0].parent}: expected one {kind} for each of the {truth.T} frames of the "
            f"truth, found {len(files)}"
        )
    for frame, path in enumerate(files):
        yield path, truth.at_frame(frame)
