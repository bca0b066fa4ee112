"""Image metrics of a scene, a grid or videos against a ground-truth grid.

All images are compared over white at the size of the ground truth. Letters: H × W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recon.devices import resolve_device
from recon.errors import GridError, InputError
from recon.grid import Camera, Grid, grid_from_views, read_grid
from recon.grid.cameras import common_focus
from recon.grid.view_clips import read_clips
from recon.metrics import bounding_box, psnr, silhouette_iou, ssim
from recon.rendering import render_gaussians
from recon.scene import DESCRIPTION, Scene, load_scene

SAME_ANGLE_DEG = 1.0
SAME_POSITION = 0.01  # relative to the distance of the true camera from the common focus
SAME_TIME = 1e-3
SAME_FOCAL = 0.01  # relative


@dataclass(frozen=True)
class ImageMetrics:
    """Metrics of one image.

    Attributes:
        view: view number in the ground truth's `transforms.json`.
        frame: frame number in the ground truth's `transforms.json`.
        psnr: PSNR over the whole image in dB; 100 if the images are equal.
        ssim: structural similarity, in [−1, 1].
        iou: intersection over union of the silhouettes (alpha above 0.5), in [0, 1].
        psnr_foreground: PSNR in dB in the bounding box of the true alpha; None if that is empty.
    """

    view: int
    frame: int
    psnr: float
    ssim: float
    iou: float
    psnr_foreground: float | None


@dataclass(frozen=True)
class Evaluation:
    """Metrics of all compared images, at least one.

    Attributes:
        images: metrics of each image, in the order of the ground truth.
        missing: number of ground-truth images for which there was no image to compare.
    """

    images: tuple[ImageMetrics, ...]
    missing: int = 0

    @property
    def psnr(self) -> float:
        """Mean PSNR in dB."""
        return float(np.mean([image.psnr for image in self.images]))

    @property
    def ssim(self) -> float:
        """Mean SSIM."""
        return float(np.mean([image.ssim for image in self.images]))

    @property
    def iou(self) -> float:
        """Mean IoU of the silhouettes."""
        return float(np.mean([image.iou for image in self.images]))

    @property
    def psnr_foreground(self) -> float | None:
        """Mean foreground PSNR in dB over the images with an object; None if there are none."""
        found = [i.psnr_foreground for i in self.images if i.psnr_foreground is not None]
        return float(np.mean(found)) if found else None

    @property
    def worst_psnr(self) -> float:
        """PSNR of the worst image in dB."""
        return min(image.psnr for image in self.images)

    def by_view(self) -> dict[int, Evaluation]:
        """Return the evaluation of each view by its number, ascending."""
        views = sorted({image.view for image in self.images})
        return {
            view: Evaluation(tuple(image for image in self.images if image.view == view))
            for view in views
        }

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that `evaluate --json` prints and `metrics.json` has per split."""
        return {
            "psnr": self.psnr,
            "ssim": self.ssim,
            "iou": self.iou,
            "psnr_foreground": self.psnr_foreground,
            "worst_psnr": self.worst_psnr,
            "missing": self.missing,
            "images": [asdict(image) for image in self.images],
        }


def evaluate(
    paths: Sequence[str | Path] | str | Path, against: str | Path, device: str = "auto"
) -> Evaluation:
    """Evaluate a scene folder, a grid folder or videos against a ground-truth grid.

    Example:
        >>> evaluate("out/scene", against="examples/robot").psnr

    Args:
        paths: one scene folder, one grid folder or its JSON, or one video for each view of the
            grid in the order of the views.
        against: grid folder of the ground truth, or its JSON.
        device: device on which a scene is rendered, see `recon.devices.resolve_device`.

    Raises:
        InputError: a file cannot be read, or does not match the ground truth.
        BackendError: the device is not available.
    """
    paths = [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    first = paths[0]
    if len(paths) == 1 and (first / DESCRIPTION).is_file():
        device = resolve_device(device)
        scene = load_scene(first, device)
        return evaluate_scene(scene, read_grid(against, up=scene.R_world_source), device)
    truth = read_grid(against)
    if first.is_file() and first.suffix.lower() != ".json":
        return evaluate_grid(_grid_of_videos(paths, truth), truth)
    if len(paths) > 1:
        raise InputError(f"expected one scene, one grid or only videos, found {len(paths)} paths")
    return evaluate_grid(read_grid(first, up=truth.R_world_source), truth)


def evaluate_scene(
    scene: Scene,
    truth: Grid,
    device: str | torch.device = "cpu",
    backend: str = "auto",
    batch: int = 4,
) -> Evaluation:
    """Evaluate renderings of a scene against all images of a grid.

    Args:
        scene: the scene.
        truth: the ground truth.
        device: device on which the scene is rendered.
        backend: see `recon.rasterizers.rasterize`.
        batch: number of images rendered at once; memory grows with it.
    """
    metrics = {}
    for index, rgb, alpha in _renderings(scene, truth, device, backend, batch):
        metrics[index] = _compare(rgb, alpha, truth, index)
    return Evaluation(tuple(metrics[index] for index in range(len(truth))))


def evaluate_grid(grid: Grid, truth: Grid) -> Evaluation:
    """Evaluate the images of a grid against those of the same camera and time in another.

    Raises:
        GridError: the grids differ in image size, or share no camera and time.
    """
    if (grid.height, grid.width) != (truth.height, truth.width):
        raise GridError(
            f"expected images of {truth.width}×{truth.height} pixels like the ground truth, found "
            f"{grid.width}×{grid.height}; resize one of the grids"
        )
    metrics = []
    focus = common_focus(truth.cameras)
    for index in range(len(truth)):
        match = _matching_image(grid, truth.camera_of(index), truth.time_of(index), focus)
        if match is not None:
            rgb, alpha = _over_white(grid.images[match])
            metrics.append(_compare(rgb, alpha, truth, index))
    if not metrics:
        raise GridError(
            "no image has the camera and time of a ground-truth image; both grids need cameras "
            "with the same angles, distance and field of view"
        )
    return Evaluation(tuple(metrics), missing=len(truth) - len(metrics))


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


def _over_white(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split RGBA, uint8 [H, W, 4], into rgb over white [H, W, 3] and alpha [H, W], in [0, 1]."""
    values = image.astype(np.float64) / 255
    rgb, alpha = values[..., :3], values[..., 3:]
    return rgb * alpha + (1 - alpha), alpha[..., 0]


def _compare(rgb: np.ndarray, alpha: np.ndarray, truth: Grid, index: int) -> ImageMetrics:
    true_rgb, true_alpha = _over_white(truth.images[index])
    box = bounding_box(true_alpha > 0)
    return ImageMetrics(
        view=truth.view_numbers[truth.view[index]],
        frame=truth.frame_numbers[truth.frame[index]],
        psnr=psnr(rgb, true_rgb),
        ssim=ssim(rgb, true_rgb),
        iou=silhouette_iou(alpha, true_alpha),
        psnr_foreground=None if box is None else psnr(rgb[box], true_rgb[box]),
    )


def _matching_image(grid: Grid, camera: Camera, time: float, focus: np.ndarray) -> int | None:
    """Return the index of the image with the given camera and time; None if there is none."""
    views = {v for v, other in enumerate(grid.cameras) if _same_camera(other, camera, focus)}
    for index in range(len(grid)):
        if grid.view[index] in views and abs(grid.time_of(index) - time) <= SAME_TIME:
            return index
    return None


def _same_camera(camera: Camera, truth: Camera, focus: np.ndarray) -> bool:
    turn = camera.T_world_camera[:3, :3].T @ truth.T_world_camera[:3, :3]
    angle_deg = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    moved = np.linalg.norm(camera.position - truth.position)
    zoomed = abs(camera.fl_x / truth.fl_x - 1)
    return bool(
        angle_deg <= SAME_ANGLE_DEG
        and moved <= SAME_POSITION * float(np.linalg.norm(truth.position - focus))
        and zoomed <= SAME_FOCAL
    )


def _grid_of_videos(paths: Sequence[Path], truth: Grid) -> Grid:
    """Make a grid of one video per view, with the cameras of the ground truth."""
    if len(paths) != truth.V:
        raise InputError(f"expected one video for each of the {truth.V} views, found {len(paths)}")
    clips = read_clips(paths)
    return grid_from_views(truth.cameras, clips.images, clips.fps, clips.alpha_known)
