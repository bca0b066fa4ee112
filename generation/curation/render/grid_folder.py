"""Grid folders of rendered assets.

    transforms.json, images/vVV/tTTT.png   the grid
    contact_sheet.png                      preview
    depth/, normals/, layers/              optional: see `maps`
    tracks.safetensors                     optional: points [F, N, 3], vertices tracked in time

Letters: V views, F frames, H × W pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from generation.curation.render.baked_asset import BakedAsset
from generation.curation.render.maps import write_maps
from generation.curation.render.settings import FPS, RenderSettings
from recon.grid import grid_from_views
from recon.grid.writing import contact_sheet, write_posed_images
from recon.media import write_png
from recon.selection import evenly_spaced


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
    write_maps(baked, settings, folder)
    if settings.tracks and not baked.is_fixed:
        return ["no tracks: the number of its vertices changes"]
    if settings.tracks:
        points = tracked_points(baked, settings.tracks)
        save_file({"points": points}, folder / "tracks.safetensors")
    return []


def tracked_points(baked: BakedAsset, count: int) -> np.ndarray:
    """Return at most `count` vertices, evenly spaced by index, in each frame, float32 [F, N, 3]."""
    vertices = len(baked.frames[0].vertices)
    chosen = evenly_spaced(vertices, count)
    return np.stack([frame.vertices[chosen] for frame in baked.frames])
