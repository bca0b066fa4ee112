"""Rendering of one asset to a grid folder.

    asset ──inspect──▶ Blender ──▶ images, or triangles ──fast renderer──▶ images ──▶ folder
    figure ────────────────────────────────▶ triangles ─┘

In addition to the files of `grid_folder`, the folder has a `render.json`: the manifest row of the
asset with settings, animation and normalization.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from generation.curation.assets.files import Asset, obj_frames
from generation.curation.assets.inspection import inspect
from generation.curation.assets.limits import AssetError, Limits
from generation.curation.blender.request import CyclesRequest, Request, Result
from generation.curation.figures.asset import BakedFigure, FigureAsset
from generation.curation.manifest import Row, Status, parse_row, row_json
from generation.curation.render.baked_asset import BakedAsset, read_baked
from generation.curation.render.blender_process import BlenderFailure, run_blender
from generation.curation.render.fast_renderer import FastRenderer
from generation.curation.render.grid_folder import write_grid_folder
from generation.curation.render.settings import (
    FOV_DEG,
    FPS,
    TIMEOUT_S,
    AssetSettings,
    Renderer,
    RenderSettings,
)
from recon.errors import BackendError
from recon.media import read_image
from recon.native.library import kernels
from recon.output import output_folder, write_json

FIGURE_CLIP = "swing"  # name of the only animation of a procedural character
NO_BACKEND = "backend"  # code of rows whose Blender, kernel or device was missing
_TEXTURE_ENDINGS = (".png", ".jpg", ".jpeg")

AnyAsset = Asset | FigureAsset
Settings = TypeVar("Settings", bound=AssetSettings)


@dataclass(frozen=True)
class AssetTask(Generic[Settings]):
    """An asset that is rendered or baked.

    Attributes:
        asset: the asset.
        folder: its output folder.
        settings: settings of the output.
        overwrite: whether the content of the folder may be replaced.
        limits: resource limits of the asset.
        timeout_s: time limit of Blender in seconds.
        threads: threads of Blender and the fast renderer; 0 for all cores.
    """

    asset: AnyAsset
    folder: Path
    settings: Settings
    overwrite: bool = False
    limits: Limits = field(default_factory=Limits)
    timeout_s: float = TIMEOUT_S
    threads: int = 0


RenderTask = AssetTask[RenderSettings]


def render_asset(task: RenderTask) -> Row:
    """Render an asset; see `process_asset`."""
    return process_asset(task, _render)


def process_asset(
    task: AssetTask[Settings], work: Callable[[AssetTask[Settings], Path], Result]
) -> Row:
    """Render or bake an asset, unless its folder is finished with the same settings.

    Args:
        task: the asset and its settings.
        work: writes the files of the asset into an empty folder.

    Returns:
        Manifest row of the asset; its status says whether it is finished, rejected or failed.

    Raises:
        OutputError, OSError: the folder cannot be written.
    """
    done = None if task.overwrite else finished_row(task.folder, task.asset, task.settings)
    if done is not None:
        return done
    began = time.monotonic()
    row = new_row(task.asset, task.settings)
    try:
        with output_folder(task.folder, task.overwrite) as partial:
            result = work(task, partial)
            row = replace(
                row, status=task.settings.finished, clip=result.clip, facts=_facts(result),
                clip_seconds=_clip_seconds(result), seconds=round(time.monotonic() - began, 3),
            )  # fmt: skip
            write_json(partial / task.settings.record, row_json(row))
        return row
    except AssetError as error:
        return _refused(row, Status.REJECTED, error.sentence, str(error.reason), began)
    except BlenderFailure as error:
        return _refused(row, Status.FAILED, str(error), "blender", began)
    except BackendError as error:
        return _refused(row, Status.FAILED, str(error), NO_BACKEND, began)


def finished_row(folder: Path, asset: AnyAsset, settings: AssetSettings) -> Row | None:
    """Return the row of a folder that holds the asset's output at the same settings, else None."""
    try:
        row = parse_row((folder / settings.record).read_bytes())
    except (OSError, ValueError):
        return None
    same_settings = row.settings == json.loads(json.dumps(settings.as_json()))
    return row if same_settings and row.asset == str(asset.path) else None


def new_row(asset: AnyAsset, settings: AssetSettings) -> Row:
    """Return the row of an asset before it is processed, with the status failed."""
    return Row(
        name=asset.name, status=Status.FAILED, asset=str(asset.path), source=asset.source,
        licence=asset.licence, author=asset.author, settings=settings.as_json(),
    )  # fmt: skip


def _render(task: RenderTask, folder: Path) -> Result:
    if isinstance(task.asset, FigureAsset):
        return _render_figure(task.asset, task, folder)
    inspection = inspect(task.asset, task.limits)
    with tempfile.TemporaryDirectory(prefix="fourdvd-render-") as name:
        scratch = Path(name)
        result = run_blender(blender_request(task.asset, task, scratch), task.timeout_s)
        baked = read_baked(scratch / "baked.npz") if task.settings.needs_triangles else None
        if task.settings.renderer is Renderer.fast:
            assert baked is not None
            images = draw_images(baked, task.settings, task.threads)
        else:
            images = read_images(scratch / "images", task.settings)
    warnings = write_grid_folder(folder, images, task.settings, baked)
    return replace(result, warnings=(*inspection.warnings, *result.warnings, *warnings))


def _render_figure(asset: FigureAsset, task: RenderTask, folder: Path) -> Result:
    began, settings = time.monotonic(), task.settings
    assert settings.renderer is Renderer.fast, "figures do not pass through Blender"
    figure = asset.bake(settings)
    baked = figure.asset
    ready = time.monotonic()
    images = draw_images(baked, settings, task.threads)
    drawn = time.monotonic()
    return replace(
        figure_result(figure),
        warnings=tuple(write_grid_folder(folder, images, settings, baked)),
        import_seconds=ready - began,
        render_seconds=drawn - ready,
    )


def figure_result(figure: BakedFigure) -> Result:
    """Describe a baked figure as Blender's result describes an asset."""
    baked, world = figure
    mesh = baked.frames[0]
    return Result(
        clip=FIGURE_CLIP,
        source_frames=(0.0, len(baked.frames) - 1.0),
        source_fps=FPS,
        center=tuple(world.center.tolist()),
        scale=world.scale,
        bounds=tuple(tuple(corner) for corner in world.bounds.tolist()),
        vertices=len(mesh.vertices),
        triangles=len(mesh.triangles),
    )


def draw_images(baked: BakedAsset, settings: RenderSettings, threads: int = 0) -> np.ndarray:
    """Render all images with the fast renderer, uint8 RGBA, [V, F, H, W, 4]."""
    kernels().set_threads(threads)
    renderer = FastRenderer(baked, settings.light, settings.samples)
    cameras = settings.cameras()
    frames = [renderer.render(frame, cameras) for frame in range(settings.frames)]
    return np.stack(frames, axis=1)


def blender_request(asset: Asset, task: RenderTask, scratch: Path) -> Request:
    """Build the request to Blender for a task; output files are written to the folder `scratch`."""
    settings = task.settings
    cycles = None
    if settings.renderer is Renderer.cycles:
        cycles = CyclesRequest(
            cameras=[camera.T_world_camera.tolist() for camera in settings.cameras()],
            fov_deg=FOV_DEG,
            size=settings.size,
            samples=settings.samples,
            ambient=settings.light.ambient,
            sun=settings.light.sun,
            sun_direction=list(settings.light.direction),
            sun_angle_deg=settings.light.angle_deg,
            device=settings.device,
            images=str(scratch / "images"),
        )
    return replace(
        plain_request(asset, task),
        action=settings.action,
        stretch=settings.factors(asset.name),
        yaw_deg=settings.yaw_deg,
        baked=str(scratch / "baked.npz") if settings.needs_triangles else None,
        cycles=cycles,
    )


def plain_request(asset: Asset, task: AssetTask[Any]) -> Request:
    """Build a request that imports an asset as it is and writes no output."""
    loose = loose_texture(asset.path)
    return Request(
        asset=str(asset.path),
        format=str(asset.format),
        obj_files=[str(path) for path in obj_frames(asset.path)] if asset.path.is_dir() else [],
        loose_texture=None if loose is None else str(loose),
        action=None,
        frames=task.settings.frames,
        stretch=[1.0, 1.0, 1.0],
        yaw_deg=0.0,
        max_triangles=task.limits.triangles,
        threads=task.threads,
        baked=None,
        cycles=None,
    )


def loose_texture(path: Path) -> Path | None:
    """Return the image beside an asset that is named after it, like `Dragon_Texture.png`.

    It is used for materials without a texture, which are frequent in FBX files. None if there is no
    such image, or more than one.
    """
    if path.is_dir():
        return None
    found = [
        file
        for file in path.parent.iterdir()
        if file.suffix.lower() in _TEXTURE_ENDINGS
        and (file.stem == path.stem or file.stem.startswith(f"{path.stem}_"))
    ]
    return found[0] if len(found) == 1 else None


def read_images(folder: Path, settings: RenderSettings) -> np.ndarray:
    """Read all images that Cycles rendered, uint8 RGBA, [V, F, H, W, 4]."""
    paths = [
        [folder / f"v{v:02d}" / f"t{t:03d}.png" for t in range(settings.frames)]
        for v in range(settings.views)
    ]
    return np.stack([np.stack([read_image(path) for path in row]) for row in paths])


def _clip_seconds(result: Result) -> float:
    start, end = result.source_frames
    return round((end - start) / result.source_fps, 4)


def _facts(result: Result) -> dict[str, Any]:
    kept = (
        "source_frames", "source_fps", "center", "scale", "bounds", "vertices", "triangles",
        "blender", "device", "import_seconds", "render_seconds",
    )  # fmt: skip
    renamed = {"center": "centre"}  # the key in manifests
    facts = {renamed.get(name, name): getattr(result, name) for name in kept}
    facts["clips"] = [asdict(clip) for clip in result.clips]
    facts["warnings"] = list(result.warnings)
    if result.baked:
        facts["baked"] = list(result.baked)
    return facts


def _refused(row: Row, status: Status, sentence: str, code: str, began: float) -> Row:
    seconds = round(time.monotonic() - began, 3)
    return replace(row, status=status, reason=sentence, facts={"code": code}, seconds=seconds)
