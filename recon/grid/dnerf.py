"""Writing grids as D-NeRF data sets, which most programs for moving Gaussians read.

transforms_{train,val,test}.json   one field of view; poses, times and paths without a suffix
{train,val,test}/vVV_tTTT.png      RGBA, straight alpha

Readers are `dnerf-data` of nerfstudio, 4D Gaussian Splatting and Deformable 3D Gaussians.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from recon.errors import GridError
from recon.grid.grid import Grid
from recon.grid.reading import Splits
from recon.grid.writing import write_images
from recon.output import output_folder, write_json

_log = logging.getLogger(__name__)
SAME_FOCAL = 1e-3  # relative; also of the principal point, relative to the image size


def write_dnerf(splits: Splits, folder: str | Path, overwrite: bool = False) -> None:
    """Write a D-NeRF data set atomically; `recon.grid.read_grid` reads it, too.

    Args:
        splits: images to fit, and those held out for both `val` and `test`; without any, these
            are the images to fit, with a warning.
        folder: folder to create.
        overwrite: whether a folder that is not empty may be replaced.

    Raises:
        GridError: the cameras differ in focal length, or their principal points are not in the
            middle of the images, neither of which the format can state.
        OutputExistsError, OutputError: the folder cannot be created or replaced.
        OSError: the disk is full or not writable.
    """
    held_out = splits.train if splits.test is None else splits.test
    if splits.test is None:
        _log.warning(
            "the grid has no held-out images, so `val` and `test` are the training images: metrics "
            "measured on them say nothing about new views"
        )
    parts = {"train": splits.train, "val": held_out, "test": held_out}
    for grid in parts.values():
        _check_cameras(grid)
    with output_folder(folder, overwrite) as partial:
        for split, grid in parts.items():
            paths = write_images(grid, partial, split + "/v{view:02d}_t{frame:03d}.png")
            write_json(partial / f"transforms_{split}.json", _transforms(grid, paths))


def _transforms(grid: Grid, file_paths: list[str]) -> dict[str, Any]:
    camera = grid.cameras[0]
    return {
        "camera_angle_x": 2 * math.atan(camera.width / 2 / camera.fl_x),
        "frames": [
            {
                "file_path": f"./{path.removesuffix('.png')}",
                "time": grid.time_of(index),
                "transform_matrix": grid.camera_of(index).T_world_camera.tolist(),
            }
            for index, path in enumerate(file_paths)
        ],
    }


def _check_cameras(grid: Grid) -> None:
    focal_px = grid.cameras[0].fl_x
    for number, camera in zip(grid.view_numbers, grid.cameras, strict=True):
        if max(abs(camera.fl_x - focal_px), abs(camera.fl_y - focal_px)) > SAME_FOCAL * focal_px:
            raise GridError(
                f"D-NeRF data sets have one focal length, found {camera.fl_x:.1f} and "
                f"{camera.fl_y:.1f} pixels in view {number}, {focal_px:.1f} in the first"
            )
        x, y = camera.cx / camera.width - 0.5, camera.cy / camera.height - 0.5
        if max(abs(x), abs(y)) > SAME_FOCAL:
            raise GridError(
                "D-NeRF data sets have the principal point in the middle of the image, found "
                f"({camera.cx:.1f}, {camera.cy:.1f}) of {camera.width}×{camera.height} pixels in "
                f"view {number}"
            )
