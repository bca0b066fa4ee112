"""The test set of Consistent4D as ground truth: four views of an object, compared over white.

    OBJECT/eval_0 … eval_3/0.png, 1.png …    azimuths −75°, 15°, 105°, 195°; the input view is at 0°

Elevation 0° and one distance for all. The set states neither distance nor field of view; those of
this project (2, 33.8°) are assumed, so scenes must be in that frame; clips need no cameras.
Source: https://github.com/yanqinJiang/Consistent4D, issue 12, and evaluation/ at
e6d3e2584b04e7fdc574094913dee9d1b407e217.
"""

from __future__ import annotations

from pathlib import Path

from recon.errors import GridError
from recon.grid import Grid, grid_from_views, orbit_camera
from recon.grid.view_clips import read_clips

PREFIX = "consistent4d:"
AZIMUTHS_DEG = (-75.0, 15.0, 105.0, 195.0)
DISTANCE = 2.0
FOV_DEG = 33.8
NOTE = (
    f"Consistent4D states no distance and field of view: {DISTANCE:g} and {FOV_DEG:g}° are assumed "
    "for rendered scenes"
)


def read_consistent4d(folder: str | Path) -> Grid:
    """Read the true views of an object.

    Args:
        folder: folder of the object, with `eval_0` to `eval_3`.

    Returns:
        A grid of 4 views; its frame rate is unknown, so frames are matched by number.

    Raises:
        GridError: a view is missing or cannot be read, or the views differ in length or size.
    """
    views = [Path(folder) / f"eval_{number}" for number in range(len(AZIMUTHS_DEG))]
    for view in views:
        if not view.is_dir():
            raise GridError("expected the folders eval_0 to eval_3 of Consistent4D", view)
    clips = read_clips(views)
    height, width = clips.images.shape[2:4]
    cameras = [orbit_camera(az, 0.0, DISTANCE, FOV_DEG, height, width) for az in AZIMUTHS_DEG]
    return grid_from_views(cameras, clips.images, clips.fps, clips.alpha_known)
