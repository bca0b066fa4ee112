"""How well a scene, or another grid, agrees with the images of a grid.

All images are compared over white at the size of the true ones. Letters: M images, H × W pixels.
What it does not know: where results are printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from recon.errors import GridError
from recon.grid.cameras import Camera
from recon.grid.grid import Grid
from recon.metrics import bounding_box, psnr, silhouette_iou, ssim
from recon.rendering import render_gaussians
from recon.scene import Scene

SAME_ANGLE_DEG = 1.0
SAME_POSITION = 0.01  # of the distance of the true camera from the origin
SAME_TIME = 1e-3
SAME_FOCAL = 0.01


@dataclass(frozen=True)
class ImageMetrics:
    """How well one image agrees.

    Attributes:
        view: number of the camera, as the grid's file has it.
        frame: number of the time, as the grid's file has it.
        psnr: dB over the whole image; 100 if equal.
        ssim: in [−1, 1].
        iou: of the silhouettes (alpha above a half), in [0, 1].
        psnr_foreground: dB over the box around the true alpha; None if nothing is there.
    """

    view: int
    frame: int
    psnr: float
    ssim: float
    iou: float
    psnr_foreground: float | None


@dataclass(frozen=True)
class Evaluation:
    """The metrics of all images that were compared, at least one.

    Attributes:
        images: in the order of the true grid.
        missing: number of true images that had no counterpart.
    """

    images: tuple[ImageMetrics, ...]
    missing: int = 0

    @property
    def psnr(self) -> float:
        """Mean over the images, dB."""
        return float(np.mean([image.psnr for image in self.images]))

    @property
    def ssim(self) -> float:
        """Mean over the images."""
        return float(np.mean([image.ssim for image in self.images]))

    @property
    def iou(self) -> float:
        """Mean over the images."""
        return float(np.mean([image.iou for image in self.images]))

    @property
    def psnr_foreground(self) -> float | None:
        """Mean over the images in which something is to be seen, dB."""
        found = [i.psnr_foreground for i in self.images if i.psnr_foreground is not None]
        return float(np.mean(found)) if found else None

    @property
    def worst_psnr(self) -> float:
        """Of the image that agrees least, dB."""
        return min(image.psnr for image in self.images)

    def to_json(self) -> dict[str, Any]:
        """What `evaluate --json` prints and `metrics.json` holds for a split."""
        return {
            "psnr": self.psnr,
            "ssim": self.ssim,
            "iou": self.iou,
            "psnr_foreground": self.psnr_foreground,
            "worst_psnr": self.worst_psnr,
            "missing": self.missing,
            "images": [asdict(image) for image in self.images],
        }


def evaluate_scene(
    scene: Scene,
    grid: Grid,
    device: str | torch.device = "cpu",
    backend: str = "auto",
    batch: int = 4,
) -> Evaluation:
    """Renders a scene into the cameras of a grid at its times and compares.

    Args:
        scene: what to look at.
        grid: the true images.
        device: where to render.
        backend: see `recon.rasterizers.rasterize`.
        batch: images that are rendered at once; memory grows with it.

    Returns:
        The metrics of every image of the grid.
    """
    metrics = {}
    for index, rgb, alpha in _renderings(scene, grid, device, backend, batch):
        metrics[index] = _compare(rgb, alpha, grid, index)
    return Evaluation(tuple(metrics[index] for index in range(len(grid))))


def evaluate_grids(grid: Grid, truth: Grid) -> Evaluation:
    """Compares the images of a grid with those of another from the same camera at the same time.

    Raises:
        GridError: the images differ in size, or no two belong together.
    """
    if (grid.height, grid.width) != (truth.height, truth.width):
        raise GridError(
            f"images of {grid.width}×{grid.height} pixels cannot be compared with those of "
            f"{truth.width}×{truth.height}; resize one of the grids"
        )
    metrics = []
    for index in range(len(truth)):
        partner = _partner(grid, truth.camera_of(index), truth.time_of(index))
        if partner is not None:
            rgb, alpha = _over_white(grid.images[partner])
            metrics.append(_compare(rgb, alpha, truth, index))
    if not metrics:
        raise GridError(
            "no image has the camera and time of any true image; the cameras (angles, distance, "
            "field of view) of both grids must agree"
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
    """Index of each image of the grid, and the scene there: rgb over white and alpha."""
    for frame in range(grid.T):
        indices = grid.at_frame(frame)
        for start in range(0, len(indices), batch):
            chosen = indices[start : start + batch]
            cameras = [grid.camera_of(index) for index in chosen]
            images = _render(scene, float(grid.times[frame]), cameras, device, backend)
            for index, rgb, alpha in zip(chosen, *images, strict=True):
                yield int(index), rgb, alpha


def _over_white(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RGBA, uint8 [H, W, 4], as rgb over white [H, W, 3] and alpha [H, W], float in [0, 1]."""
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


def _partner(grid: Grid, camera: Camera, time: float) -> int | None:
    """The image of a grid that was taken by the same camera at the same time, if there is one."""
    views = {v for v, other in enumerate(grid.cameras) if _same_camera(other, camera)}
    for index in range(len(grid)):
        if grid.view[index] in views and abs(grid.time_of(index) - time) <= SAME_TIME:
            return index
    return None


def _same_camera(camera: Camera, truth: Camera) -> bool:
    turn = camera.T_world_camera[:3, :3].T @ truth.T_world_camera[:3, :3]
    angle_deg = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    moved = np.linalg.norm(camera.position - truth.position)
    zoomed = abs(camera.fl_x / truth.fl_x - 1)
    return bool(
        angle_deg <= SAME_ANGLE_DEG
        and moved <= SAME_POSITION * max(float(np.linalg.norm(truth.position)), 1e-6)
        and zoomed <= SAME_FOCAL
    )
