"""Writes grids as the folder that every reader of nerfstudio's `transforms.json` takes.

    transforms.json            cameras, view-major
    images/vVV/tTTT.png        RGBA, straight alpha
    videos/view_VV.mp4         over white, for people
    contact_sheet.png          likewise

What it does not know: the keys of the JSON (`transforms`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from recon.grid.contact_sheet import contact_sheet
from recon.grid.grid import Grid
from recon.grid.transforms import transforms_json
from recon.media import write_png, write_video
from recon.output import output_folder, write_json

IMAGES = "images/v{view:02d}/t{frame:03d}.png"


def write_grid(grid: Grid, folder: str | Path, overwrite: bool = False) -> None:
    """Writes a whole grid folder, complete or not at all.

    Raises:
        OutputExistsError, OutputError: the folder cannot be made or replaced.
        OSError: the disk is full or may not be written to.
    """
    with output_folder(folder, overwrite) as partial:
        write_posed_images(grid, partial)
        write_previews(grid, partial)


def write_posed_images(
    grid: Grid, folder: Path, json_name: str = "transforms.json", pattern: str = IMAGES
) -> None:
    """Writes the images and then the JSON that names them, into an existing folder.

    Args:
        grid: what to write.
        folder: where; held-out images may go beside those that are there already.
        json_name: `transforms_test.json` for the held-out images.
        pattern: path of an image from its `view` and `frame` numbers.
    """
    grid = _view_major(grid)
    file_paths = [
        pattern.format(view=grid.view_numbers[view], frame=grid.frame_numbers[frame])
        for view, frame in zip(grid.view, grid.frame, strict=True)
    ]
    for parent in sorted({(folder / file_path).parent for file_path in file_paths}):
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:  # PNG is packed outside Python's lock
        list(pool.map(write_png, (folder / path for path in file_paths), grid.images))
    write_json(folder / json_name, transforms_json(grid, file_paths))


def write_previews(grid: Grid, folder: Path) -> None:
    """Writes a contact sheet, and a video of each view that moves, into an existing folder."""
    write_png(folder / "contact_sheet.png", contact_sheet(grid))
    for view, number in enumerate(grid.view_numbers):
        indices = grid.of_view(view)
        if len(indices) > 1:
            (folder / "videos").mkdir(exist_ok=True)
            video = folder / "videos" / f"view_{number:02d}.mp4"
            write_video(video, grid.over(indices=indices), grid.fps)


def _view_major(grid: Grid) -> Grid:
    order = np.lexsort((grid.frame, grid.view))
    return grid if (order == np.arange(len(grid))).all() else grid.subset(order)
