"""What a rendered grid's folder holds.

    transforms.json, images/vVV/tTTT.png   as every grid
    contact_sheet.png                      for people
    depth/vVV/tTTT.png                     on request: 16 bits, in units of 1e-4, 0 where nothing is
    normals/vVV/tTTT.png                   on request: (n + 1) / 2 of the world's normal, 8 bits
    tracks.safetensors                     on request: points [F, N, 3], vertices followed in time

Depth is measured along the optical axis, at pixel centres, and so are normals. Letters: V views, F
frames, H × W pixels. What it does not know: who drew the images.
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

DEPTH_UNIT = 1e-4  # world units; 16 bits reach 6.5, twice the cameras' distance


def write_grid_folder(
    folder: Path, images: np.ndarray, settings: RenderSettings, baked: BakedAsset | None
) -> list[str]:
    """Writes a grid with what else the settings ask for.

    Args:
        folder: an empty one.
        images: sRGB with straight alpha, uint8, [V, F, H, W, 4].
        settings: with which they were drawn.
        baked: what they show; needed where `settings.needs_triangles`.

    Returns:
        Sentences about what cannot be told of this asset.

    Raises:
        OSError: it cannot be written.
    """
    grid = grid_from_views(settings.cameras(), images, FPS)
    write_posed_images(grid, folder)
    write_png(folder / "contact_sheet.png", contact_sheet(grid))
    return [] if baked is None else _write_truth(baked, settings, grid, folder)


def _write_truth(
    baked: BakedAsset, settings: RenderSettings, grid: Grid, folder: Path
) -> list[str]:
    """Writes the depth, normals and tracks that are asked for; sentences about what cannot be."""
    renderer = FastRenderer(baked, settings.light, 1)
    for index in range(len(grid)) if settings.depth or settings.normals else ():
        view, frame = int(grid.view[index]), int(grid.frame[index])
        truth = renderer.surface_truth(frame, grid.cameras[view])
        place = Path(IMAGES.format(view=view, frame=frame)).relative_to("images")
        if settings.depth:
            units = np.rint(truth.depth / DEPTH_UNIT).clip(0, 65535).astype(np.uint16)
            _save(units, folder / "depth" / place)
        if settings.normals:
            seen = (truth.depth > 0)[..., None]
            colours = np.where(seen, np.rint((truth.normals + 1) / 2 * 255), 0).astype(np.uint8)
            _save(colours, folder / "normals" / place)
    if settings.tracks and not baked.is_fixed:
        return ["no tracks: its vertices change in number"]
    if settings.tracks:
        points = followed_points(baked, settings.tracks)
        save_file({"points": points}, folder / "tracks.safetensors")
    return []


def followed_points(baked: BakedAsset, most: int) -> np.ndarray:
    """At most so many vertices, evenly chosen, at all times, float32, [F, N, 3]."""
    count = len(baked.frames[0].vertices)
    chosen = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
    return np.stack([frame.vertices[chosen] for frame in baked.frames])


def _save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, image)
