"""Baking of the triangles of several animations of an asset to a folder, for generated samples.

    asset ──inspect──▶ Blender ──▶ clip_00.npz, clip_01.npz, … ──▶ folder
    figure ──────────────────────▶ clip_00.npz ────────────────────┘

Each file holds one animation, normalized over its own frames, or a single frame of an asset that
does not move; see `baked_asset`. The folder also has a `bake.json`, the manifest row of the asset.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from generation.curation.assets.inspection import inspect
from generation.curation.blender.request import BakeRequest, Result
from generation.curation.figures.asset import FigureAsset
from generation.curation.manifest import Row
from generation.curation.render.baked_asset import read_baked, with_smaller_textures, write_baked
from generation.curation.render.blender_process import run_blender
from generation.curation.render.rendering import (
    FIGURE_CLIP,
    AssetTask,
    figure_result,
    plain_request,
    process_asset,
)
from generation.curation.render.settings import BakeSettings, RenderSettings

CLIP_FILES = "clip_*.npz"


def bake_asset(task: AssetTask[BakeSettings]) -> Row:
    """Bake an asset; see `process_asset`."""
    return process_asset(task, _bake)


def _bake(task: AssetTask[BakeSettings], folder: Path) -> Result:
    asset, settings = task.asset, task.settings
    if isinstance(asset, FigureAsset):
        return _bake_figure(asset, settings, folder)
    inspection = inspect(asset, task.limits, animated=False)
    bake = BakeRequest(settings.clips, str(folder))
    request = replace(plain_request(asset, task), bake=bake)
    result = run_blender(request, task.timeout_s)
    for path in sorted(folder.glob(CLIP_FILES)):
        write_baked(path, with_smaller_textures(read_baked(path), settings.texture_size))
    return replace(result, warnings=(*inspection.warnings, *result.warnings))


def _bake_figure(asset: FigureAsset, settings: BakeSettings, folder: Path) -> Result:
    began = time.monotonic()
    figure = asset.bake(RenderSettings(frames=settings.frames))
    write_baked(folder / "clip_00.npz", figure.asset)
    seconds = time.monotonic() - began
    return replace(figure_result(figure), import_seconds=seconds, baked=(FIGURE_CLIP,))
