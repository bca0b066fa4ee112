"""Metrics of a scene, a grid or videos against a ground-truth grid.

    scene, grid, videos ──▶ pairs of an image and its true image ──▶ metrics ──▶ Evaluation

All images are compared over white at the size of the ground truth, one after the other.
Letters: V views, T frames, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image

from recon.devices import resolve_device
from recon.errors import GridError, InputError
from recon.evaluation.alignment import align
from recon.evaluation.consistent4d import NOTE, PREFIX, read_consistent4d
from recon.evaluation.matching import matching_frames, matching_image
from recon.evaluation.mesh_sequence import SUFFIXES, mesh_files_of, mesh_sequence
from recon.evaluation.object_size import is_misaligned, relative_size, scale_advice
from recon.evaluation.ply_sequence import ply_files_of, ply_sequence
from recon.evaluation.results import Evaluation, ImageMetrics
from recon.evaluation.sequences import FrameFiles, sequence_renderings
from recon.grid import Camera, Grid, grid_from_views, read_grid
from recon.grid.cameras import common_focus
from recon.grid.mosaic import Mosaic
from recon.grid.view_clips import open_clips, read_clips
from recon.media import IMAGE_SUFFIXES, by_numbers
from recon.metrics.catalog import BASIC, METRICS
from recon.metrics.image import SILHOUETTE
from recon.metrics.interface import ImageMetric, ImagePair, Metric, VideoMetric
from recon.metrics.opening import open_metrics
from recon.progress import Eta, OnStep, Progress, ignore_progress
from recon.rendering import render_gaussians
from recon.scene import Scene, check_no_run, is_scene, load_scene
from recon.similarity import Similarity

FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Pillow's resampling filters by name; they filter when images become smaller."""

_NO_CLIPS = (*IMAGE_SUFFIXES, ".ply", *SUFFIXES)


def evaluate(
    paths: Sequence[str | Path] | str | Path,
    against: str | Path,
    device: str = "auto",
    *,
    metrics: Sequence[str | Metric] = BASIC,
    resize: str | None = None,
    axes: str | None = None,
    scale: float = 1.0,
    aligned: bool = False,
    mosaic: Mosaic | None = None,
    on_step: OnStep = ignore_progress,
) -> Evaluation:
    """Evaluate a scene folder, a grid folder or videos against a ground-truth grid.

    Example:
        >>> evaluate("out/scene", against="examples/robot").psnr

    Args:
        paths: one scene folder or nerfstudio run (`recon.scene.load_scene`), one grid folder or
            its JSON, or one video or folder of images for each view of the grid in the order of the
            views, or a folder of these.
        against: grid folder of the ground truth, or its JSON.
        device: device on which a scene is rendered, see `recon.devices.resolve_device`.
        metrics: metrics, or the names of those without weights (`recon.metrics.catalog`).
        resize: filter with which images of another size are resized, a key of `FILTERS`; None:
            they are refused.
        axes: axes of PLY files and meshes, see `recon.exporters.conventions`; None: "y-down" for
            PLY files, "y-up" for meshes.
        scale: size of the truth's world relative to that of a scene, PLY files or meshes.
        aligned: whether PLY files and meshes are aligned with the truth, see
            `recon.evaluation.alignment`; the result is in the notes.
        mosaic: how each video shows several views, which follow each other; None: it shows one.
        on_step: called after each image.

    Raises:
        InputError: a file cannot be read, or does not match the ground truth.
        BackendError: the device or the package of a metric is not available.
    """
    paths = _views_of([Path(p) for p in ([paths] if isinstance(paths, (str, Path)) else paths)])
    opened = _opened(metrics)
    first = paths[0]
    sequence = _sequence(first, axes, scale, device) if len(paths) == 1 else None
    if aligned and sequence is None:
        raise InputError(
            f"{first}: only a folder of PLY files or meshes can be aligned; of a scene, that of "
            "`fourdvd export --format ply`"
        )
    if axes is not None and sequence is None:
        raise InputError(f"{first}: only the axes of PLY files and meshes can be named")
    if scale != 1 and sequence is None and not is_scene(first):
        raise InputError(f"{first}: only a scene, PLY files or meshes can be scaled")
    if mosaic is not None and not _are_clips(paths):
        raise InputError(f"{first}: only videos and folders of images can be mosaics")
    if len(paths) == 1 and is_scene(first):
        device = resolve_device(device)
        scene = load_scene(first, device)
        truth, notes = _read_truth(against, up=scene.R_world_source)
        scaled = scene if scale == 1 else scene.mapped(Similarity(scale, np.zeros(3)))
        found = evaluate_scene(scaled, truth, device, metrics=opened, on_step=on_step)
        size, true_cameras = found.relative_size, truth.cameras
        cameras, source = scene.cameras or true_cameras, scene.source_camera
        advice = scale_advice(size, scale, cameras, true_cameras, source)
        return replace(found, notes=(*notes, *found.notes), warnings=(*found.warnings, *advice))
    truth, assumed = _read_truth(against)
    if sequence is not None:
        files, note = sequence
        alignment = align(files, truth) if aligned else None
        placement = None if alignment is None else alignment.placement
        images = sequence_renderings(files, truth, placement)
        found = evaluate_images(images, truth, metrics=opened, on_step=on_step)
        notes = [*assumed, *note, *([] if alignment is None else [str(alignment)]), *found.notes]
        advice = scale_advice(found.relative_size, scale) if alignment is None else ()
        warnings = (*found.warnings, *advice)
        return replace(found, notes=tuple(notes), warnings=warnings, alignment=alignment)
    if _are_clips(paths):
        grid, notes = _grid_of_clips(paths, truth, mosaic)
    elif len(paths) > 1:
        raise InputError(f"expected one scene, one grid or only videos, found {len(paths)} paths")
    else:
        grid, notes = read_grid(first, up=truth.R_world_source), ()
    found = evaluate_grid(grid, truth, metrics=opened, resize=resize, on_step=on_step)
    return replace(found, notes=(*notes, *found.notes))


def evaluate_scene(
    scene: Scene,
    truth: Grid,
    device: str | torch.device = "cpu",
    backend: str = "auto",
    batch: int = 4,
    *,
    metrics: Sequence[str | Metric] = BASIC,
    on_step: OnStep = ignore_progress,
) -> Evaluation:
    """Evaluate renderings of a scene against all images of a grid.

    Args:
        scene: the scene.
        truth: the ground truth.
        device: device on which the scene is rendered.
        backend: see `recon.rasterizers.rasterize`.
        batch: number of images rendered at once; memory grows with it.
        metrics: see `evaluate`.
        on_step: called after each image.

    Raises:
        InputError: the scene renders to NaN, or images are too small for a metric.
    """
    images = _renderings(scene, truth, device, backend, batch)
    return evaluate_images(images, truth, metrics=metrics, on_step=on_step)


def evaluate_grid(
    grid: Grid,
    truth: Grid,
    *,
    metrics: Sequence[str | Metric] = BASIC,
    resize: str | None = None,
    on_step: OnStep = ignore_progress,
) -> Evaluation:
    """Evaluate the images of a grid against those of the same camera and time in another.

    Args:
        grid: the images to rate.
        truth: the ground truth.
        metrics: see `evaluate`.
        resize: see `evaluate`.
        on_step: called after each image.

    Raises:
        GridError: the grids differ in image size, or share no camera and time.
    """
    notes = ()
    if (grid.height, grid.width) != (truth.height, truth.width):
        grid, notes = _resized(grid, truth, resize)
    focus = common_focus(truth.cameras)
    matches = [
        matching_image(grid, truth.camera_of(index), truth.time_of(index), focus)
        for index in range(len(truth))
    ]
    images = (
        (index, *over_white(grid.images[match]))
        for index, match in enumerate(matches)
        if match is not None
    )
    if all(match is None for match in matches):
        raise GridError(
            "no image has the camera and time of a ground-truth image; both grids need cameras "
            "with the same angles, distance and field of view"
        )
    found = evaluate_images(images, truth, metrics=metrics, on_step=on_step)
    return replace(found, notes=(*notes, *found.notes))


def evaluate_images(
    images: Iterable[tuple[int, np.ndarray, np.ndarray]],
    truth: Grid,
    *,
    metrics: Sequence[str | Metric] = BASIC,
    on_step: OnStep = ignore_progress,
) -> Evaluation:
    """Evaluate images given one after the other, so that they need not all be in memory.

    Args:
        images: index of the true image, rgb over white [H, W, 3] and alpha [H, W], in [0, 1].
        truth: the ground truth.
        metrics: see `evaluate`.
        on_step: called after each image.

    Raises:
        InputError: an image is not finite or has another size, or does not suit a metric.
    """
    opened = _opened(metrics)
    of_videos = [cast(VideoMetric, each) for each in opened if METRICS[each.name].of_videos]
    of_images = [cast(ImageMetric, each) for each in opened if not METRICS[each.name].of_videos]
    found: dict[int, ImageMetrics] = {}
    empty, sizes = 0, []
    eta = Eta(len(truth))
    for metric in of_videos:
        metric.begin()
    for index, rgb, alpha in images:
        pair = _pair(rgb, alpha, truth, index)
        empty += not (alpha > SILHOUETTE).any() and bool((pair.true_alpha > SILHOUETTE).any())
        sizes.append(relative_size(alpha, pair.true_alpha))
        values = {key: v for metric in of_images for key, v in metric.measure(pair).items()}
        for metric in of_videos:
            metric.add(pair)
        found[index] = ImageMetrics(*_numbers(truth, index), values)
        eta.tick()
        on_step(Progress("comparing", len(found), len(truth), eta.seconds_left))
    missing = len(truth) - len(found)
    seen = [size for size in sizes if size is not None]
    size = float(np.median(seen)) if seen else None
    return Evaluation(
        tuple(found[index] for index in sorted(found)),
        missing,
        {metric.name: metric.score() for metric in of_videos},
        {metric.name: metric.settings for metric in opened},
        warnings=tuple(_warnings(missing, empty, len(truth), size)),
        relative_size=size,
    )


def over_white(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split RGBA, uint8 [H, W, 4], into rgb over white [H, W, 3] and alpha [H, W], in [0, 1]."""
    values = image.astype(np.float64) / 255
    rgb, alpha = values[..., :3], values[..., 3:]
    return rgb * alpha + (1 - alpha), alpha[..., 0]


def _read_truth(against: str | Path, up: str | np.ndarray = "auto") -> tuple[Grid, tuple[str, ...]]:
    text = str(against)
    if text.startswith(PREFIX):
        return read_consistent4d(text.removeprefix(PREFIX)), (NOTE,)
    return read_grid(against, up=up), ()


def _opened(metrics: Sequence[str | Metric]) -> list[Metric]:
    named = {name: open_metrics([name])[0] for name in metrics if isinstance(name, str)}
    return [named[each] if isinstance(each, str) else each for each in metrics]


def _warnings(missing: int, empty: int, total: int, size: float | None) -> Iterator[str]:
    if missing:
        yield f"{missing} of {total} true images have no counterpart; means are over the others"
    if empty:
        yield f"{empty} images are empty where the truth shows an object"
    if size is not None and is_misaligned(size):
        yield (
            f"the object is {size:.2f} times as large as the true one (median over the images), so "
            "that they do not align and the metrics say little"
        )


def _numbers(truth: Grid, index: int) -> tuple[int, int]:
    return truth.view_numbers[truth.view[index]], truth.frame_numbers[truth.frame[index]]


def _pair(rgb: np.ndarray, alpha: np.ndarray, truth: Grid, index: int) -> ImagePair:
    true_rgb, true_alpha = over_white(truth.images[index])
    view, frame = _numbers(truth, index)
    if rgb.shape != true_rgb.shape or alpha.shape != true_alpha.shape:
        raise InputError(
            f"view {view}, frame {frame}: expected {truth.width}×{truth.height} pixels like the "
            f"truth, found {rgb.shape[1]}×{rgb.shape[0]}"
        )
    if not (np.isfinite(rgb).all() and np.isfinite(alpha).all()):
        raise InputError(f"view {view}, frame {frame}: the image has pixels that are not numbers")
    indices = int(truth.view[index]), int(truth.frame[index])
    return ImagePair(*indices, rgb, alpha, true_rgb, true_alpha)


@torch.no_grad()
def _render(
    scene: Scene, time: float, cameras: Sequence[Camera], device: str | torch.device, backend: str
) -> tuple[np.ndarray, np.ndarray]:
    gaussians = scene.at(time).map(lambda tensor: tensor.to(device))
    rendering = render_gaussians(gaussians, cameras, backend=backend)
    return rendering.rgb.clamp(0, 1).cpu().numpy(), rendering.alpha.cpu().numpy()


def _renderings(
    scene: Scene, grid: Grid, device: str | torch.device, backend: str, batch: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the index of each image of the grid with the scene's rgb over white and alpha."""
    for frame in range(grid.T):
        indices = grid.at_frame(frame)
        for start in range(0, len(indices), batch):
            chosen = indices[start : start + batch]
            cameras = [grid.camera_of(index) for index in chosen]
            images = _render(scene, float(grid.times[frame]), cameras, device, backend)
            for index, rgb, alpha in zip(chosen, *images, strict=True):
                yield int(index), rgb, alpha


def _sequence(
    folder: Path, axes: str | None, scale: float, device: str
) -> tuple[FrameFiles, tuple[str, ...]] | None:
    """Describe a folder of PLY files or meshes, and which axes it is assumed to have, if any.

    Returns:
        None for a folder that has neither.
    """
    if not is_scene(folder) and (files := ply_files_of(folder)):
        assumed = axes or "y-down"
        found = ply_sequence(files, assumed, scale, resolve_device(device))
    elif not is_scene(folder) and (files := mesh_files_of(folder)):
        assumed = axes or "y-up"
        found = mesh_sequence(files, assumed, scale)
    else:
        return None
    note = f"the axes of the files are taken to be {assumed}; --axes names others"
    return found, (note,) if axes is None else ()


def _resized(grid: Grid, truth: Grid, resize: str | None) -> tuple[Grid, tuple[str, ...]]:
    """Resize a grid to the pixels of the truth, with alpha-weighted colors."""
    sizes = f"{truth.width}×{truth.height}", f"{grid.width}×{grid.height}"
    if resize is None:
        raise GridError(
            f"expected images of {sizes[0]} pixels like the ground truth, found {sizes[1]}; "
            "name a filter, or resize one of the grids",
            argument="resize",
        )
    if resize not in FILTERS:
        raise InputError(f"expected a filter among {', '.join(FILTERS)}, found {resize!r}")
    if abs(grid.width * truth.height - truth.width * grid.height) > max(truth.width, truth.height):
        raise GridError(f"expected images with the sides of {sizes[0]}, found {sizes[1]} pixels")
    size = (truth.width, truth.height)
    images = np.empty((len(grid), truth.height, truth.width, 4), np.uint8)
    for index, image in enumerate(grid.images):  # Pillow weights the colors of "RGBa" by alpha
        small = Image.fromarray(image).convert("RGBa").resize(size, FILTERS[resize])
        images[index] = np.asarray(small.convert("RGBA"))
    cameras = tuple(camera.resized(truth.height, truth.width) for camera in grid.cameras)
    note = f"images of {sizes[1]} pixels were resized to {sizes[0]} (Pillow, {resize})"
    return replace(grid, images=images, cameras=cameras), (note,)


def _views_of(paths: list[Path]) -> list[Path]:
    """Replace a folder of one clip per view by these, in the order of their numbers."""
    folder = paths[0]
    if len(paths) > 1 or not folder.is_dir() or is_scene(folder):
        return paths
    if any(folder.glob("transforms*.json")):  # a grid, whatever else is in its folder
        return paths
    check_no_run(folder)
    if any(folder.glob("*.json")):
        return paths
    clips = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if not clips or any(path.suffix.lower() in _NO_CLIPS for path in clips):
        return paths
    return sorted(clips, key=by_numbers)


def _are_clips(paths: Sequence[Path]) -> bool:
    """Whether the first is a video or a folder of images, instead of a grid."""
    first = paths[0]
    if first.is_dir():
        files = ply_files_of(first) or mesh_files_of(first)
        return not (files or is_scene(first) or any(first.glob("*.json")))
    return first.is_file() and first.suffix.lower() != ".json"


def _grid_of_clips(
    paths: Sequence[Path], truth: Grid, mosaic: Mosaic | None
) -> tuple[Grid, tuple[str, ...]]:
    """Make a grid of one clip per view, with the cameras and times of the ground truth."""
    views = len(paths) * (1 if mosaic is None else mosaic.views)
    if views != truth.V:
        kind = "video" if mosaic is None else "view of the mosaics"
        raise InputError(f"expected one {kind} for each of the {truth.V} views, found {views}")
    clip = open_clips(paths)[0]
    clips = read_clips(paths, mosaic)
    indices, note = matching_frames(
        clips.images.shape[1], clips.fps, truth, clip.path.name, rate_known=clip.path.is_file()
    )
    times = truth.times[: len(indices)]
    height, width = clips.images.shape[2:4]
    cameras = [camera.resized(height, width) for camera in truth.cameras]
    images = clips.images[:, indices]
    grid = grid_from_views(cameras, images, truth.fps, clips.alpha_known, times=times)
    return grid, () if note is None else (note,)
