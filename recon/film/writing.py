"""A film on disk: an H.264 video, a GIF or a folder of PNG files, complete or absent.

Letters: F frames, H × W pixels. What it does not know: what is filmed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from recon.errors import OutputError
from recon.media import write_gif, write_png, write_video
from recon.output import check_output, check_output_file, output_file, output_folder


def check_film(path: str | Path, overwrite: bool = False) -> None:
    """Tells early, before long work, whether a film may be written at `path`.

    Raises:
        OutputError: the suffix is not of a kind that can be written, or something is in the way.
    """
    path = Path(path)
    if path.suffix.lower() not in _writers:
        raise OutputError(
            f"{path}: expected a name that ends in .mp4 or .gif, or one without a suffix for a "
            f"folder of PNG files, found {path.suffix!r}"
        )
    check = check_output_file if path.suffix else check_output
    check(path, overwrite)


def write_film(
    path: str | Path, frames: Iterable[np.ndarray], fps: float, overwrite: bool = False
) -> None:
    """Writes a film as its suffix says: `.mp4`, `.gif`, or none for a folder of PNG files.

    Args:
        path: of the file or folder.
        frames: sRGB, uint8, [H, W, 3] each, at least one.
        fps: frames a second; GIF rounds it to a whole number of hundredths of a second a frame.
        overwrite: whether an older film may be replaced.

    Raises:
        OutputError: as `check_film`.
        OSError: the film cannot be written.
    """
    path = Path(path)
    check_film(path, overwrite)
    place = output_file if path.suffix else output_folder
    with place(path, overwrite) as partial:
        _writers[path.suffix.lower()](partial, frames, fps)


def _write_pngs(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    for index, frame in enumerate(frames):
        write_png(path / f"frame_{index:04d}.png", frame)


_writers: dict[str, Callable[[Path, Iterable[np.ndarray], float], None]] = {
    ".mp4": write_video,
    ".gif": write_gif,
    "": _write_pngs,
}
