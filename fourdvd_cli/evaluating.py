"""`recon.evaluation` as the command line runs it: finds out what is compared, and makes a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recon.devices import resolve_device
from recon.errors import InputError
from recon.evaluation import Evaluation, evaluate_grids, evaluate_scene
from recon.grid import Grid, grid_from_views, read_grid
from recon.grid.view_videos import read_view_videos
from recon.scene import DESCRIPTION, load_scene

HEADER = ("view", "images", "PSNR", "PSNR foreground", "worst PSNR", "SSIM", "IoU")


def evaluate_paths(paths: Sequence[Path], against: Path, device: str = "auto") -> Evaluation:
    """Compares a scene, a grid or videos with a grid.

    Args:
        paths: one scene folder, one grid folder or its JSON, or one video for each view of the
            grid, in the order of the views.
        against: grid folder or its JSON with the true images.
        device: "auto", "cpu" or "cuda"; where a scene is rendered.

    Raises:
        InputError: something cannot be read, or does not belong to the true images.
    """
    truth = read_grid(against)
    first = paths[0]
    if first.is_file() and first.suffix.lower() != ".json":
        return evaluate_grids(_grid_of_videos(paths, truth), truth)
    if len(paths) > 1:
        raise InputError(f"expected one scene or grid, or videos, found {len(paths)} paths")
    if (first / DESCRIPTION).is_file():
        where = resolve_device(device)
        return evaluate_scene(load_scene(first, where), truth, where)
    return evaluate_grids(read_grid(first), truth)


def table_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """A row for each view and one for all, under `HEADER`."""
    views = sorted({image.view for image in evaluation.images})
    parts = {
        str(view): tuple(image for image in evaluation.images if image.view == view)
        for view in views
    }
    parts["all"] = evaluation.images
    return [_row(name, Evaluation(images)) for name, images in parts.items()]


def _row(name: str, part: Evaluation) -> tuple[str, ...]:
    foreground = "–" if part.psnr_foreground is None else f"{part.psnr_foreground:.2f}"
    return (
        name,
        str(len(part.images)),
        f"{part.psnr:.2f}",
        foreground,
        f"{part.worst_psnr:.2f}",
        f"{part.ssim:.4f}",
        f"{part.iou:.4f}",
    )


def _grid_of_videos(paths: Sequence[Path], truth: Grid) -> Grid:
    """Videos as a grid that was taken by the true cameras."""
    if len(paths) != truth.V:
        raise InputError(f"expected one video for each of the {truth.V} views, found {len(paths)}")
    videos = read_view_videos(paths)
    return grid_from_views(truth.cameras, videos.images, videos.fps, videos.alpha_known)
