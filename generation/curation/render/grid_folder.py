"""Grid folders of rendered assets.

    transforms.json, images/vVV/tTTT.png   the grid
    contact_sheet.png                      preview
    depth/vVV/tTTT.png                     optional: 16 bits, in units of 1e-4, 0 for background
    normals/vVV/tTTT.png                   optional: (n + 1) / 2 in the world frame, 8 bits
    tracks.safetensors                     optional: points [F, N, 3], vertices tracked in time

Depth along the optical axis and normals are sampled at pixel centers. Letters: V views, F frames,
H × W pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from generation.curation.render.baked_asset import BakedAsset
from generation.curation.render.fast_renderer import FastRenderer
from generation.curation.render.settings import FPS, RenderSettings
from recon.grid import Grid, grid_from_views
from recon.grid.writing import IMAGES, contact_sheet, write_posed_images
from recon.media import write_png

DEPTH_UNIT = 1e-4  # world units; 16 bits reach 6.5, twice the distance of the cameras


def write_grid_folder(
    folder: Path, images: np.ndarray, settings: RenderSettings, baked: BakedAsset | None
) -> list[str]:
    """Write a grid and the optional maps that the settings request.

    Args:
        folder: an empty folder.
        images: sRGB with straight alpha, uint8, [V, F, H, W, 4].
        settings: settings of the render.
        baked: triangles of the asset; required if `settings.needs_triangles`.

    Returns:
        Warnings about outputs that cannot be written for this asset.

    Raises:
        OSError: a file cannot be written.
    """
    grid = grid_from_views(settings.cameras(), images, FPS)
    write_posed_images(grid, folder)
    write_png(folder / "contact_sheet.png", contact_sheet(grid))
    if baked is None:
        return []
    if settings.depth or settings.normals:
        _write_maps(baked, settings, grid, folder)
    if settings.tracks and not baked.is_fixed:
        return ["no tracks: the number of its vertices changes"]
    if settings.tracks:
        points = tracked_points(baked, settings.tracks)
        save_file({"points": points}, folder / "tracks.safetensors")
    return []


def tracked_points(baked: BakedAsset, count: int) -> np.ndarray:
    """Return at most `count` vertices, evenly spaced by index, in each frame, float32 [F, N, 3]."""
    vertices = len(baked.frames[0].vertices)
    chosen = np.unique(np.linspace(0, vertices - 1, min(vertices, count)).round().astype(int))
    return np.stack([frame.vertices[chosen] for frame in baked.frames])


def _write_maps(baked: BakedAsset, settings: RenderSettings, grid: Grid, folder: Path) -> None:
    renderer = FastRenderer(baked, settings.light, 1)
    for index in range(len(grid)):
        view, frame = int(grid.view[index]), int(grid.frame[index])
        truth = renderer.surface_truth(frame, grid.cameras[view])
        place = Path(IMAGES.format(view=view, frame=frame)).relative_to("images")
        if settings.depth:
            units = np.rint(truth.depth / DEPTH_UNIT).clip(0, 65535).astype(np.uint16)
            _save(units, folder / "depth" / place)
        if settings.normals:
            seen = (truth.depth > 0)[..., None]
            colors = np.where(seen, np.rint((truth.normals + 1) / 2 * 255), 0).astype(np.uint8)
            _save(colors, folder / "normals" / place)


def _save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, image)
