"""Find where a part went that jumped farther than its own size between two frames.

Gradients only reach what overlaps. A part without any overlap would be faded out, in all frames.
When a frame joins the fit, its lost parts are therefore looked for:

    superfluous Gaussians, outside of the silhouettes ─┐
                                                       ├▶ assignment ─▶ rigid motion of each part
    unexplained points of the frame's visual hull ─────┘

Both sets are assigned to each other one to one, by distance and color; the rigid motion of a part
follows from its pairs, and both are repeated, as in ICP (Besl and McKay 1992).
Letters: N Gaussians, V views of one frame, M points. Frame: normalized.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from torch import Tensor

from recon.gaussians import Gaussians, sh0_to_rgb
from recon.grid.cameras import Camera
from recon.rotations import rigid_motion

MIN_SHARE = 0.4  # of the views that see a point: outside of their silhouettes, or unexplained there
MIN_OPACITY = 0.1  # of Gaussians that can be lost
MIN_POINTS = 12  # of a part, and of what is unexplained
MAX_PARTS = 5  # that are looked for, and places where they are looked for; the largest
SAMPLES = 300  # of each of the two sets
COLOR_WEIGHT = 0.5  # squared distance of black and white, in squared units
ROUNDS = 8  # of assignment and rigid motion
LINK = 3.0  # of points of one part, relative to the median distance to the nearest


class FrameImages(NamedTuple):
    """The images of one frame, and how the fit renders them.

    Attributes:
        cameras: V cameras.
        alpha: alpha of the images, in [0, 1], [V, H, W].
        rendered: rendered alpha, in [0, 1], [V, H, W].
    """

    cameras: Sequence[Camera]
    alpha: np.ndarray
    rendered: np.ndarray


class Points(NamedTuple):
    """Colored points.

    Attributes:
        positions: [M, 3].
        rgb: in [0, 1], [M, 3].
    """

    positions: np.ndarray
    rgb: np.ndarray

    def select(self, chosen: np.ndarray) -> Points:
        """Return some of the points, by index or mask."""
        return Points(self.positions[chosen], self.rgb[chosen])


def proposals(
    images: FrameImages, gaussians: Gaussians, hull: Points, rng: np.random.Generator
) -> Iterator[Tensor]:
    """Propose where each lost part could be: in each unexplained part of the hull, or in all.

    Args:
        images: the images of a frame, rendered with the Gaussians.
        gaussians: Gaussians, moved to the time of the frame.
        hull: points of the frame's visual hull.
        rng: source of randomness.

    Yields:
        New means of the Gaussians of one part, NaN for the others, [N, 3].
    """
    found = hull.select(unexplained(images, hull.positions))
    places = [found] + [found.select(place) for place in members(parts_of(found.positions))]
    means = gaussians.means.detach().double().cpu().numpy()
    rgb = sh0_to_rgb(gaussians.sh0[:, 0]).detach().double().cpu().numpy()
    for rows in members(lost_parts(images, gaussians)):
        for place in places:
            if len(place.positions) >= MIN_POINTS:
                moved = moved_part(Points(means[rows], rgb[rows]), place, rng)
                targets = torch.full_like(gaussians.means, torch.nan)
                targets[torch.from_numpy(rows)] = torch.from_numpy(moved).to(targets)
                yield targets


def members(part: np.ndarray) -> list[np.ndarray]:
    """Return the indices of the members of the largest parts, the largest first."""
    counts = np.bincount(part[part >= 0])
    largest = np.argsort(-counts, kind="stable")[:MAX_PARTS]
    return [np.flatnonzero(part == number) for number in largest if counts[number] > 0]


def is_lost(images: FrameImages, gaussians: Gaussians) -> bool:
    """Return whether any part lies outside of the silhouettes."""
    return bool((lost_parts(images, gaussians) >= 0).any())


def lost_parts(images: FrameImages, gaussians: Gaussians) -> np.ndarray:
    """Number the connected parts outside of the silhouettes, from 0; −1 for the others, [N]."""
    means = gaussians.means.detach().double().cpu().numpy()
    opaque = gaussians.opacities.detach().sigmoid().cpu().numpy() > MIN_OPACITY
    rows = np.flatnonzero(opaque & superfluous(images, means))
    part = np.full(len(means), -1)
    part[rows] = parts_of(means[rows])
    return part


def superfluous(images: FrameImages, positions: np.ndarray) -> np.ndarray:
    """Return which points lie outside of the silhouettes in many views, [M]."""
    return _share(images, positions, _grown(images.alpha) < 0.5) >= MIN_SHARE


def unexplained(images: FrameImages, positions: np.ndarray) -> np.ndarray:
    """Return which points lie, in many views, in the object where nothing is rendered, [M]."""
    masks = (images.alpha > 0.5) & (_grown(images.rendered) < 0.5)
    return _share(images, positions, masks) >= MIN_SHARE


def parts_of(positions: np.ndarray) -> np.ndarray:
    """Number the connected parts of points, [M], from 0; −1 for parts that are too small."""
    if len(positions) < MIN_POINTS:
        return np.full(len(positions), -1)
    tree = KDTree(positions)
    reach = LINK * float(np.median(tree.query(positions, k=2)[0][:, 1]))
    number = connected_components(tree.sparse_distance_matrix(tree, max(reach, 1e-9)))[1]
    return np.where(np.bincount(number)[number] >= MIN_POINTS, number, -1)


def moved_part(lost: Points, found: Points, rng: np.random.Generator) -> np.ndarray:
    """Move a part rigidly onto points, assigned by distance and color; new positions, [M, 3]."""
    positions = torch.from_numpy(lost.positions)
    chosen, others = (_sample(len(points.positions), rng) for points in (lost, found))
    target = found.positions[others]
    color_cost = COLOR_WEIGHT / 3 * cdist(lost.rgb[chosen], found.rgb[others], "sqeuclidean")
    before = np.zeros((2, 0), int)
    for _ in range(ROUNDS):
        cost = cdist(positions[chosen], target, "sqeuclidean") + color_cost
        pairs = rows, columns = np.stack(linear_sum_assignment(cost))
        if np.array_equal(pairs, before):
            break
        before = pairs
        rotation, offset = rigid_motion(positions[chosen[rows]], torch.from_numpy(target[columns]))
        positions = positions @ rotation.T + offset
    return positions.numpy()


def _grown(images: np.ndarray) -> np.ndarray:
    """Grow what is bright by a pixel, against small errors of shape, [V, H, W]."""
    return ndimage.maximum_filter(images, (1, 3, 3))


def _sample(count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(count)[:SAMPLES]


def _share(images: FrameImages, positions: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share of the views that see a point in which it lies in the mask, [M]."""
    inside, seeing = np.zeros(len(positions)), np.zeros(len(positions))
    for camera, mask in zip(images.cameras, masks, strict=True):
        x, y = np.moveaxis(camera.project(positions)[0], -1, 0)
        seen = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
        rows, columns = (np.where(seen, values, 0).astype(int) for values in (y, x))
        inside += seen & mask[rows, columns]
        seeing += seen
    return inside / np.maximum(seeing, 1)
