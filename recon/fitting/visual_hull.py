"""The visual hull: what all silhouettes of one time have in common, as points inside the object.

Silhouettes that were generated one by one do not fit each other to the pixel, and what all of them
have in common may lack a leg that one of them has elsewhere. Then some views are outvoted: as few
as give a hull that fills most of each silhouette; those that were filmed never. Letters: V views, M
points. Frame: world. It knows no motion.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from recon.errors import GridError
from recon.grid.cameras import Camera
from recon.grid.grid import Grid

RESOLUTION = 96  # voxels along an edge of the cube that the cameras see
ALPHA_INSIDE = 0.5
FILLED = 0.9  # of the silhouettes' pixels, before any view is outvoted
OUTVOTED = 0.25  # of the views at most


class Hull(NamedTuple):
    """Voxels of the hull.

    Attributes:
        points: centres of the voxels, [M, 3].
        rgb: mean colour of the pixels that see the voxel, in [0, 1], [M, 3].
        on_surface: whether a neighbour of the voxel is outside, [M].
        voxel: edge of a voxel in world units.
    """

    points: np.ndarray
    rgb: np.ndarray
    on_surface: np.ndarray
    voxel: float


def visual_hull(grid: Grid, frame: int, resolution: int = RESOLUTION) -> Hull:
    """Carves a sphere with the silhouettes of one frame.

    A point outside of an image is not carved by it, but half of the images must see it.

    Raises:
        GridError: no voxel is inside most silhouettes, so cameras and masks contradict each other.
    """
    images = grid.at_frame(frame)
    cameras = [grid.camera_of(index) for index in images]
    centre, radius = common_sphere(list(grid.cameras))
    axis = (np.arange(resolution) + 0.5) / resolution * 2 - 1
    cube = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    cube = cube[(cube**2).sum(1) <= 1]
    points = centre + radius * cube
    outside = np.zeros(len(points), dtype=int)
    views = np.zeros(len(points), dtype=int)
    for camera, index in zip(cameras, images, strict=True):
        mask = _grown_mask(grid.images[index])
        columns, rows, seen = pixels_of(points, camera)
        votes = len(images) if grid.filmed[index] else 1  # nobody outvotes what was filmed
        outside += votes * (seen & ~mask[rows, columns])
        views += seen
    outside[2 * views < len(images)] = len(images)
    voxel, outvoted = 2 * radius / resolution, 0
    while _filled(
        points[outside <= outvoted], voxel, grid, images, cameras
    ) < FILLED and outvoted + 1 <= OUTVOTED * len(images):
        outvoted += 1
    inside = outside <= outvoted
    if not inside.any():
        raise GridError(
            f"no point lies inside the silhouettes of most of the {len(images)} views of frame "
            f"{frame}; cameras and images do not belong together, or the masks are empty"
        )
    points = points[inside]
    occupied = np.zeros((resolution,) * 3, dtype=bool)
    cells = np.floor((cube[inside] + 1) / 2 * resolution).astype(int)
    occupied[tuple(cells.T)] = True
    surface = occupied & np.logical_not(ndimage.binary_erosion(occupied))
    return Hull(
        points, _mean_colour(points, grid, images, cameras), surface[tuple(cells.T)],
        voxel,
    )  # fmt: skip


def _filled(
    points: np.ndarray, voxel: float, grid: Grid, images: np.ndarray, cameras: list[Camera]
) -> float:
    """Share of its silhouette that voxels cover in three of four views at least, in [0, 1]."""
    shares = []
    for camera, index in zip(cameras, images, strict=True):
        mask = grid.images[index][..., 3] > 255 * ALPHA_INSIDE
        if not mask.any():
            continue
        columns, rows, seen = pixels_of(points, camera)
        drawn = np.zeros_like(mask)
        drawn[rows[seen], columns[seen]] = True
        distance = np.linalg.norm(camera.position - points.mean(0)) if len(points) else 1.0
        reach = math.ceil(voxel * camera.fl_x / distance / 2) + 1
        covered = ndimage.binary_dilation(drawn, iterations=reach)
        shares.append(float(covered[mask].mean()))
    return float(np.quantile(shares, 0.25)) if shares else 0.0


def common_sphere(cameras: list[Camera]) -> tuple[np.ndarray, float]:
    """Centre and radius of a sphere that fills the images of all cameras.

    The centre is the point nearest to all optical axes; a single camera is given the distance of
    two world units along its own.
    """
    origins = np.stack([camera.position for camera in cameras])
    axes = -np.stack([camera.T_world_camera[:3, 2] for camera in cameras])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    normal = across.sum(0)
    if np.linalg.cond(normal) > 1e6:
        centre = origins.mean(0) + 2 * axes.mean(0)
    else:
        centre = np.linalg.solve(normal, (across @ origins[:, :, None]).sum(0)[:, 0])
    distances = np.linalg.norm(origins - centre, axis=1)
    tangents = np.array([max(c.width / 2 / c.fl_x, c.height / 2 / c.fl_y) for c in cameras])
    return centre, float((distances * np.sin(np.arctan(tangents))).min())


def pixels_of(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, rows and whether inside the image, of points [M, 3] in a camera, [M] each."""
    viewmat = camera.viewmat
    in_camera = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    depth = np.where(in_camera[:, 2] > 1e-6, in_camera[:, 2], np.nan)
    columns = camera.fl_x * in_camera[:, 0] / depth + camera.cx
    rows = camera.fl_y * in_camera[:, 1] / depth + camera.cy
    seen = (columns >= 0) & (columns < camera.width) & (rows >= 0) & (rows < camera.height)
    whole = [np.where(seen, values, 0).astype(int) for values in (columns, rows)]
    return whole[0], whole[1], seen


def _grown_mask(image: np.ndarray) -> np.ndarray:
    # One pixel more, so that thin parts survive the voxels' rounding.
    return ndimage.binary_dilation(image[..., 3] > 255 * ALPHA_INSIDE)


def _mean_colour(
    points: np.ndarray, grid: Grid, images: np.ndarray, cameras: list[Camera]
) -> np.ndarray:
    total, weight = np.zeros((len(points), 3)), np.full((len(points), 1), 1e-6)
    for camera, index in zip(cameras, images, strict=True):
        columns, rows, seen = pixels_of(points, camera)
        pixels = grid.images[index][rows, columns].astype(np.float64) / 255
        alpha = pixels[:, 3:] * seen[:, None]
        total += pixels[:, :3] * alpha
        weight += alpha
    return total / weight
