"""Options of a video that are known before a scene is loaded, without heavy imports."""

from __future__ import annotations

from pathlib import Path

from recon.errors import InputError

CAMERA_PATHS = ("orbit", "swing", "fixed")
SOURCE = "source"
SUFFIXES = (".mp4", ".gif", "")  # "": a folder of PNG files


def check_video_options(
    output: str | Path,
    path: str = "orbit",
    fps: float | None = None,
    frames: int | None = None,
    over: str | Path | None = None,
    transparent: bool = False,
) -> None:
    """Check the options of `recon.film.rendering.render_video`, whose names they have.

    Raises:
        InputError: The suffix or the name of the camera path is unknown, or options contradict each
            other.
    """
    output = Path(output)
    if output.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{output}: expected a name that ends in .mp4 or .gif, or one without a suffix for a "
            f"folder of PNG files, found {output.suffix!r}"
        )
    check_camera_path(path, frames)
    if over is not None and path != SOURCE:
        raise InputError(f"needs the camera {SOURCE!r}, found {path!r}", argument="over")
    if over is not None and (fps is not None or frames is not None):
        raise InputError(
            "the video has its own frames; leave out their number and rate", argument="over"
        )
    if over is not None and transparent:
        raise InputError("an image over a video is opaque", argument="transparent")
    if transparent and output.suffix:
        raise InputError(
            f"expected an output without suffix, for a folder of PNG files, found {output}",
            argument="transparent",
        )


def check_camera_path(path: str, frames: int | None = None) -> None:
    """Check what can be known of a camera path before there is a scene.

    Args:
        path: see `recon.film.camera_paths.plan_camera_path`.
        frames: see `recon.film.camera_paths.plan_camera_path`.

    Raises:
        InputError: It is neither a known name nor like that of a file, its view is no number, or
            `frames` was given with a file.
    """
    name, colon, view = path.partition(":")
    if name in CAMERA_PATHS:
        if colon and not (name == "fixed" and view.isdecimal()):
            raise InputError(f"expected a view number after `fixed:`, as in fixed:2, found {path}")
    elif path != SOURCE:
        if not is_camera_file(path):
            names = ", ".join(CAMERA_PATHS)
            raise InputError(
                f"expected {names}, fixed:VIEW, {SOURCE} or a camera file, found {path}"
            )
        if frames is not None:
            raise InputError("a camera file has its own number of frames; leave out `frames`")


def is_camera_file(path: str) -> bool:
    """Return whether a camera path is the name of a file, which need not exist."""
    named = path == SOURCE or path.partition(":")[0] in CAMERA_PATHS
    return not named and (bool(Path(path).suffix) or Path(path).exists())


def view_number(path: str) -> int | None:
    """Return the view of a camera path such as "fixed:2"; None if it names none."""
    name, _, view = path.partition(":")
    return int(view) if name == "fixed" and view else None


def check_view(view: int, views: int) -> None:
    """Check the number of a view.

    Args:
        view: the number.
        views: how many there are.

    Raises:
        InputError: There is no such view.
    """
    if not 0 <= view < views:
        raise InputError(f"expected a view from 0 to {views - 1}, found {view}")


def check_frames(frames: int | None, times: int) -> None:
    """Check the number of frames over the fitted times of a scene.

    Args:
        frames: the number; None: it is not given.
        times: number of fitted times, T.

    Raises:
        InputError: Several are asked for of a scene with one time.
    """
    if times == 1 and frames is not None and frames > 1:
        raise InputError(
            f"expected 1, because the scene has one time and does not move, found {frames}",
            argument="frames",
        )
