"""The visual hull: the points that lie inside all silhouettes of one frame.

Silhouettes of generated views do not agree exactly, so their intersection may lose a limb that one
view shows elsewhere. Therefore a point may lie outside a few silhouettes. This tolerance is the
smallest number of views for which the hull covers most of each silhouette; the input view is exempt
from it. Letters: V views, M points. Frame: world.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from recon.errors import GridError
from recon.grid.cameras import Camera, common_focus
from recon.grid.grid import Grid
from recon.similarity import Similarity

RESOLUTION = 96  # voxels along an edge of the cube around the common sphere
ALPHA_INSIDE = 0.5
MIN_COVERAGE = 0.9  # fraction of a silhouette that the hull must cover with a tolerance
MAX_TOLERANCE = 0.25  # largest fraction of the views that may disagree


class Hull(NamedTuple):
    """Voxels inside the hull.

    Attributes:
        points: voxel centers in world coordinates, [M, 3].
        rgb: mean sRGB color of the pixels that see each voxel, in [0, 1], [M, 3].
        on_surface: whether a neighbor of the voxel is outside, bool, [M].
        voxel_size: edge length of a voxel in world units.
    """

    points: np.ndarray
    rgb: np.ndarray
    on_surface: np.ndarray
    voxel_size: float

    def mapped(self, similarity: Similarity) -> Hull:
        """Return the hull in another frame."""
        return self._replace(
            points=similarity.points(self.points), voxel_size=similarity.scale * self.voxel_size
        )


class _Silhouettes(NamedTuple):
    """The posed images of one frame.

    Attributes:
        cameras: V cameras.
        images: RGBA, uint8, straight alpha, [V, H, W, 4].
        is_input: whether an image belongs to the input view, bool, [V].
    """

    cameras: list[Camera]
    images: np.ndarray
    is_input: np.ndarray


def visual_hull(grid: Grid, frame: int, resolution: int = RESOLUTION) -> Hull:
    """Carve the visual hull of one frame out of the sphere that all cameras see.

    A view does not carve points outside its image, but at least half of the views must see a
    point.

    Args:
        grid: posed images.
        frame: index of the frame.
        resolution: number of voxels along the diameter of the sphere.

    Raises:
        GridError: no voxel lies inside most silhouettes, so cameras and masks contradict each
            other.
    """
    indices = grid.at_frame(frame)
    views = _Silhouettes(
        [grid.camera_of(index) for index in indices], grid.images[indices], grid.is_input[indices]
    )
    center, radius = common_sphere(grid.cameras)
    cells = _cells_in_sphere(resolution)
    points, voxel_size = center + radius * cells, 2 * radius / resolution
    inside = _carve(points, views, voxel_size)
    if not inside.any():
        raise GridError(
            f"no point lies inside the silhouettes of most of the {len(indices)} views of frame "
            f"{frame}; check that the cameras belong to the images and that the masks are not empty"
        )
    points = points[inside]
    return Hull(
        points, _mean_color(points, views), _on_surface(cells[inside], resolution), voxel_size
    )


def common_sphere(cameras: Sequence[Camera]) -> tuple[np.ndarray, float]:
    """Return center and radius of the largest sphere around the common focus that all cameras see.

    In images that are not square, the sphere may exceed the shorter edge.
    """
    center = common_focus(cameras)
    distances = np.linalg.norm([camera.position - center for camera in cameras], axis=1)
    tangents = np.array([max(c.width / 2 / c.fl_x, c.height / 2 / c.fl_y) for c in cameras])
    return center, float((distances * np.sin(np.arctan(tangents))).min())


def _cells_in_sphere(resolution: int) -> np.ndarray:
    """Voxel centers of the cube [−1, 1]³ that lie inside the unit sphere, [M, 3]."""
    axis = (np.arange(resolution) + 0.5) / resolution * 2 - 1
    cube = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return cube[(cube**2).sum(1) <= 1]


def _carve(points: np.ndarray, views: _Silhouettes, voxel_size: float) -> np.ndarray:
    """Return whether each point is outside at most a tolerated number of silhouettes, bool, [M]."""
    V = len(views.cameras)
    disagreeing, seeing = np.zeros(len(points), dtype=int), np.zeros(len(points), dtype=int)
    for camera, image, is_input in zip(*views, strict=True):
        # Grown by one pixel, so that thin parts survive the rounding to voxels.
        mask = ndimage.binary_dilation(image[..., 3] > 255 * ALPHA_INSIDE)
        rows, columns, seen = _pixels(points, camera)
        weight = V if is_input else 1  # no tolerance for the input view
        disagreeing += weight * (seen & np.logical_not(mask[rows, columns]))
        seeing += seen
    disagreeing[2 * seeing < V] = V
    tolerance = 0
    while (
        tolerance + 1 <= MAX_TOLERANCE * V
        and _coverage(points[disagreeing <= tolerance], views, voxel_size) < MIN_COVERAGE
    ):
        tolerance += 1
    return disagreeing <= tolerance


def _coverage(points: np.ndarray, views: _Silhouettes, voxel_size: float) -> float:
    """Return the lower quartile over the views of the covered fraction of a silhouette."""
    shares = []
    for camera, image in zip(views.cameras, views.images, strict=True):
        mask = image[..., 3] > 255 * ALPHA_INSIDE
        if not mask.any():
            continue
        rows, columns, seen = _pixels(points, camera)
        covered = np.zeros_like(mask)
        covered[rows[seen], columns[seen]] = True
        distance = np.linalg.norm(camera.position - points.mean(0)) if len(points) else 1.0
        radius_px = math.ceil(voxel_size * camera.fl_x / distance / 2) + 1
        covered = ndimage.binary_dilation(covered, iterations=radius_px)
        shares.append(float(covered[mask].mean()))
    return float(np.quantile(shares, 0.25)) if shares else 0.0


def _pixels(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and visibility of points [M, 3] in an image, [M] each; (0, 0) if not visible."""
    x, y = np.moveaxis(camera.project(points)[0], -1, 0)
    seen = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    return np.where(seen, y, 0).astype(int), np.where(seen, x, 0).astype(int), seen


def _on_surface(cells: np.ndarray, resolution: int) -> np.ndarray:
    """Which cells of [−1, 1]³, [M, 3], have an empty neighbor, bool, [M]."""
    occupied = np.zeros((resolution,) * 3, dtype=bool)
    index = tuple(np.floor((cells + 1) / 2 * resolution).astype(int).T)
    occupied[index] = True
    return (occupied & np.logical_not(ndimage.binary_erosion(occupied)))[index]


def _mean_color(points: np.ndarray, views: _Silhouettes) -> np.ndarray:
    """Alpha-weighted mean color of the pixels that see each point, in [0, 1], [M, 3]."""
    total, weight = np.zeros((len(points), 3)), np.full((len(points), 1), 1e-6)
    for camera, image in zip(views.cameras, views.images, strict=True):
        rows, columns, seen = _pixels(points, camera)
        pixels = image[rows, columns].astype(np.float64) / 255
        alpha = pixels[:, 3:] * seen[:, None]
        total += pixels[:, :3] * alpha
        weight += alpha
    return total / weight
