"""Baking of the triangles of several animations of an asset to a folder, for generated samples.

    asset ──inspect──▶ Blender ──▶ clip_00.npz, clip_01.npz, … ──▶ folder
    figure ──────────────────────▶ clip_00.npz ────────────────────┘

Each file holds one animation, normalized over its own frames; see `baked_asset`. The folder also
has a `bake.json`, the manifest row of the asset.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from generation.curation.assets.files import obj_frames
from generation.curation.assets.inspection import inspect
from generation.curation.blender.request import BakeRequest, Request, Result
from generation.curation.figures.asset import FigureAsset
from generation.curation.manifest import Row
from generation.curation.render.baked_asset import write_baked
from generation.curation.render.blender_process import run_blender
from generation.curation.render.rendering import (
    FIGURE_CLIP,
    AssetTask,
    loose_texture,
    process_asset,
)
from generation.curation.render.settings import FPS, BakeSettings, RenderSettings

CLIP_FILES = "clip_*.npz"


def bake_asset(task: AssetTask[BakeSettings]) -> Row:
    """Bake an asset; see `process_asset`."""
    return process_asset(task, _bake)


def _bake(task: AssetTask[BakeSettings], folder: Path) -> Result:
    asset, settings = task.asset, task.settings
    if isinstance(asset, FigureAsset):
        return _bake_figure(asset, settings, folder)
    inspection = inspect(asset, task.limits)
    loose = loose_texture(asset.path)
    request = Request(
        asset=str(asset.path),
        format=str(asset.format),
        obj_files=[str(path) for path in obj_frames(asset.path)] if asset.path.is_dir() else [],
        loose_texture=None if loose is None else str(loose),
        action=None,
        frames=settings.frames,
        stretch=[1.0, 1.0, 1.0],
        yaw_deg=0.0,
        max_triangles=task.limits.triangles,
        threads=task.threads,
        baked=None,
        cycles=None,
        bake=BakeRequest(settings.clips, str(folder)),
    )
    result = run_blender(request, task.timeout_s)
    return replace(result, warnings=(*inspection.warnings, *result.warnings))


def _bake_figure(asset: FigureAsset, settings: BakeSettings, folder: Path) -> Result:
    began = time.monotonic()
    baked, world = asset.bake(RenderSettings(frames=settings.frames))
    write_baked(folder / "clip_00.npz", baked)
    mesh = baked.frames[0]
    return Result(
        clip=FIGURE_CLIP,
        source_frames=(0.0, settings.frames - 1.0),
        source_fps=FPS,
        center=tuple(world.center.tolist()),
        scale=world.scale,
        bounds=tuple(tuple(corner) for corner in world.bounds.tolist()),
        vertices=len(mesh.vertices),
        triangles=len(mesh.triangles),
        import_seconds=time.monotonic() - began,
        baked=(FIGURE_CLIP,),
    )
