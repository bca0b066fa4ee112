"""One asset to one grid folder.

    asset ──inspect──▶ Blender ──▶ images, or triangles ──fast renderer──▶ images ──▶ folder

    transforms.json, images/vVV/tTTT.png   as every grid
    contact_sheet.png                      for people
    render.json                            the row of the manifest: settings, clip, placement
    depth/vVV/tTTT.png                     on request: 16 bits, in units of 1e-4, 0 where nothing is
    normals/vVV/tTTT.png                   on request: (n + 1) / 2 of the world's normal, 8 bits
    tracks.safetensors                     on request: points [F, N, 3], vertices followed in time

Depth is measured along the optical axis, at pixel centres, and so are normals. `render_asset`
answers with a row in any case; only a full disk and its like are raised.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from generation.curation.asset_files import Asset, obj_frames
from generation.curation.baked_asset import BakedAsset, read_baked
from generation.curation.blender.request import CyclesRequest, Request, Result
from generation.curation.blender_process import BlenderFailure, run_blender
from generation.curation.fast_renderer import FastRenderer
from generation.curation.inspection import AssetError, Limits, inspect
from generation.curation.manifest import Row, Status, parse_row, row_json
from generation.curation.render_settings import FOV_DEG, FPS, Renderer, RenderSettings
from recon.errors import BackendError
from recon.grid import Grid, grid_from_views
from recon.grid.contact_sheet import contact_sheet
from recon.grid.images import read_image, write_png
from recon.grid.writing import IMAGES, write_posed_images
from recon.native.library import kernels
from recon.output import output_folder, write_json

DEPTH_UNIT = 1e-4  # world units; 16 bits reach 6.5, twice the cameras' distance
TIMEOUT_S = 1800.0
NO_BACKEND = "backend"  # the code of rows that no Blender, kernel or device was there for
_TEXTURE_ENDINGS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class RenderTask:
    """One asset, where its grid goes, and what the work may take.

    Attributes:
        asset: which.
        folder: of its grid.
        settings: what is drawn.
        overwrite: whether what is in the folder may be replaced.
        limits: what the asset may ask of the machine.
        timeout_s: seconds for Blender.
        threads: for Blender and the fast renderer; 0 means all.
    """

    asset: Asset
    folder: Path
    settings: RenderSettings
    overwrite: bool = False
    limits: Limits = field(default_factory=Limits)
    timeout_s: float = TIMEOUT_S
    threads: int = 0


def render_asset(task: RenderTask) -> Row:
    """Renders an asset; a folder that was finished with the same settings is taken as it is.

    Raises:
        OutputError, OSError: the folder cannot be written.
    """
    done = None if task.overwrite else finished_row(task.folder, task.asset, task.settings)
    if done is not None:
        return done
    began = time.monotonic()
    row = row_of(task.asset, task.settings)
    try:
        with output_folder(task.folder, task.overwrite) as partial:
            result = _make(task, partial)
            row = replace(
                row, status=Status.RENDERED, clip=result.clip, facts=_facts(result),
                clip_seconds=_clip_seconds(result), seconds=round(time.monotonic() - began, 3),
            )  # fmt: skip
            write_json(partial / "render.json", row_json(row))
        return row
    except AssetError as error:
        return _refused(row, Status.REJECTED, error.sentence, str(error.reason), began)
    except BlenderFailure as error:
        return _refused(row, Status.FAILED, str(error), "blender", began)
    except BackendError as error:
        return _refused(row, Status.FAILED, str(error), NO_BACKEND, began)


def finished_row(folder: Path, asset: Asset, settings: RenderSettings) -> Row | None:
    """The row of a folder that holds this asset's grid, made with these settings; None if not."""
    try:
        row = parse_row((folder / "render.json").read_bytes())
    except (OSError, ValueError):
        return None
    same_settings = row.settings == json.loads(json.dumps(settings.as_json()))
    return row if same_settings and row.asset == str(asset.path) else None


def row_of(asset: Asset, settings: RenderSettings) -> Row:
    """A row with what is known of an asset before anything was done."""
    return Row(
        name=asset.name, status=Status.FAILED, asset=str(asset.path), source=asset.source,
        licence=asset.licence, author=asset.author, settings=settings.as_json(),
    )  # fmt: skip


def _make(task: RenderTask, folder: Path) -> Result:
    inspection = inspect(task.asset, task.limits)
    with tempfile.TemporaryDirectory(prefix="fourdvd-render-") as name:
        scratch = Path(name)
        result = run_blender(blender_request(task, scratch), task.timeout_s)
        baked = read_baked(scratch / "baked.npz") if task.settings.needs_triangles else None
        if task.settings.renderer is Renderer.fast:
            assert baked is not None
            images = draw(baked, task.settings, task.threads)
        else:
            images = read_images(scratch / "images", task.settings)
    grid = grid_from_views(task.settings.cameras(), images, FPS)
    write_posed_images(grid, folder)
    write_png(folder / "contact_sheet.png", contact_sheet(grid))
    warnings = [*inspection.warnings, *result.warnings]
    if baked is not None:
        warnings += _write_truth(baked, task.settings, grid, folder)
    return replace(result, warnings=tuple(warnings))


def draw(baked: BakedAsset, settings: RenderSettings, threads: int = 0) -> np.ndarray:
    """All images of the fast renderer, uint8 RGBA, [V, F, H, W, 4]."""
    kernels().set_threads(threads)
    renderer = FastRenderer(baked, settings.light, settings.samples)
    cameras = settings.cameras()
    frames = [renderer.render(frame, cameras) for frame in range(settings.frames)]
    return np.stack(frames, axis=1)


def blender_request(task: RenderTask, scratch: Path) -> Request:
    """What Blender is asked for a task; what it makes goes into the folder `scratch`."""
    settings, asset = task.settings, task.asset
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
    loose = loose_texture(asset.path)
    return Request(
        asset=str(asset.path),
        format=str(asset.format),
        obj_files=[str(path) for path in obj_frames(asset.path)] if asset.path.is_dir() else [],
        loose_texture=None if loose is None else str(loose),
        action=settings.action,
        frames=settings.frames,
        stretch=settings.factors(asset.name),
        yaw_deg=settings.yaw_deg,
        max_triangles=task.limits.triangles,
        threads=task.threads,
        baked=str(scratch / "baked.npz") if settings.needs_triangles else None,
        cycles=cycles,
    )


def loose_texture(path: Path) -> Path | None:
    """The one image beside an asset that is called after it, like `Dragon_Texture.png`.

    It is for materials that name no texture, as FBX files often do not.
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
    """All images that Cycles drew, uint8 RGBA, [V, F, H, W, 4]."""
    paths = [
        [folder / f"v{v:02d}" / f"t{t:03d}.png" for t in range(settings.frames)]
        for v in range(settings.views)
    ]
    return np.stack([np.stack([read_image(path) for path in row]) for row in paths])


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
            _save(Image.fromarray(units), folder / "depth" / place)
        if settings.normals:
            seen = (truth.depth > 0)[..., None]
            colours = np.where(seen, np.rint((truth.normals + 1) / 2 * 255), 0).astype(np.uint8)
            _save(Image.fromarray(colours), folder / "normals" / place)
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


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format="PNG")


def _clip_seconds(result: Result) -> float:
    start, end = result.source_frames
    return round((end - start) / result.source_fps, 4)


def _facts(result: Result) -> dict[str, Any]:
    kept = (
        "source_frames", "source_fps", "centre", "scale", "bounds", "vertices", "triangles",
        "blender", "device", "import_seconds", "render_seconds",
    )  # fmt: skip
    facts = {name: getattr(result, name) for name in kept}
    facts["clips"] = [asdict(clip) for clip in result.clips]
    facts["warnings"] = list(result.warnings)
    return facts


def _refused(row: Row, status: Status, sentence: str, code: str, began: float) -> Row:
    seconds = round(time.monotonic() - began, 3)
    return replace(row, status=status, reason=sentence, facts={"code": code}, seconds=seconds)
