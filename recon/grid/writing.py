"""Writing grids as folders that readers of nerfstudio's `transforms.json` understand.

transforms.json            cameras, view-major
images/vVV/tTTT.png        RGBA, straight alpha
initial_gaussians.safetensors   Gaussians that a fit starts from, if there are any
videos/view_VV.mp4         preview of each view over white
contact_sheet.png          preview of all views over white
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from recon.grid.grid import Grid
from recon.grid.initial_gaussians import FILE as INITIAL_GAUSSIANS
from recon.grid.initial_gaussians import write_initial_gaussians
from recon.grid.transforms import transforms_json
from recon.media import thumbnail, tile_images, write_png, write_video
from recon.output import output_folder, write_json
from recon.selection import evenly_spaced

GAP_PX = 2  # between the cells of a contact sheet
IMAGES = "images/v{view:02d}/t{frame:03d}.png"


def write_grid(grid: Grid, folder: str | Path, overwrite: bool = False) -> None:
    """Write a grid folder atomically; `recon.grid.read_grid` reads it.

    Raises:
        OutputExistsError, OutputError: the folder cannot be created or replaced.
        OSError: the disk is full or not writable.
    """
    with output_folder(folder, overwrite) as partial:
        write_posed_images(grid, partial)
        write_previews(grid, partial)


def write_posed_images(
    grid: Grid, folder: Path, json_name: str = "transforms.json", pattern: str = IMAGES
) -> None:
    """Write the images, then the JSON that lists them, into an existing folder.

    Args:
        grid: posed images.
        folder: existing folder, such as a grid folder to which held-out images are added.
        json_name: name of the JSON, e.g. `transforms_test.json` for held-out images.
        pattern: format string of image paths with the numbers `view` and `frame`.
    """
    grid = _view_major(grid)
    file_paths = write_images(grid, folder, pattern)
    if grid.initial_gaussians is not None:
        write_initial_gaussians(grid.initial_gaussians, folder / INITIAL_GAUSSIANS)
    write_json(folder / json_name, transforms_json(grid, file_paths))


def write_images(grid: Grid, folder: Path, pattern: str) -> list[str]:
    """Write the images of a grid as PNG; return their paths in the folder, M of them.

    Args:
        grid: posed images.
        folder: existing folder.
        pattern: see `write_posed_images`.
    """
    file_paths = [
        pattern.format(view=grid.view_numbers[view], frame=grid.frame_numbers[frame])
        for view, frame in zip(grid.view, grid.frame, strict=True)
    ]
    for parent in sorted({(folder / file_path).parent for file_path in file_paths}):
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:  # PNG is encoded outside the GIL
        list(pool.map(write_png, (folder / path for path in file_paths), grid.images))
    return file_paths


def write_previews(grid: Grid, folder: Path) -> None:
    """Write a contact sheet and a video of each view with several frames into a folder."""
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


def contact_sheet(grid: Grid, rows: int = 16, columns: int = 5, tile_px: int = 160) -> np.ndarray:
    """Draw a contact sheet over white, with evenly spaced views as rows and frames as columns.

    Args:
        grid: the grid; cells without an image stay blank.
        rows: maximum number of views.
        columns: maximum number of frames.
        tile_px: longer side of a cell; smaller images are not enlarged.

    Returns:
        uint8, [H, W, 3].
    """
    views, frames = evenly_spaced(grid.V, rows), evenly_spaced(grid.T, columns)

    def cell(view: int, frame: int) -> np.ndarray | None:
        found = np.flatnonzero((grid.view == view) & (grid.frame == frame))
        images = grid.over(indices=found[-1:])
        return thumbnail(images[0], tile_px) if len(images) else None

    return tile_images([[cell(view, frame) for frame in frames] for view in views], GAP_PX)
