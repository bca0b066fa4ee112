"""Gaussians on a lifted surface, the start of a fit.

Letters: N Gaussians, P points on the surface, M triangles.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import KDTree

from generation.lift.surface import LiftedSurface
from recon.gaussians import Gaussians, rgb_to_sh0

POINTS = 8  # on the surface, per Gaussian
OPACITY = 0.9
SPREAD = 0.4  # standard deviation along the surface, over the distance between Gaussians
FLATNESS = 0.2  # standard deviation across the surface, over that along it
INSET = 0.6  # depth below the surface, over the distance between Gaussians: they are not sharp
SHALLOW = 0.25  # largest depth below the surface, over the thickness of a thin part
_NEIGHBORS = 8
_ROUNDS = 4  # of the search for the size of the lattice's cells
_GOLDEN = (np.sqrt(5) - 1) / 2, np.sqrt(2) - 1


def gaussians_of(surface: LiftedSurface, count: int) -> Gaussians:
    """Cover a surface evenly with flat Gaussians.

    Points on the surface are grouped by the cells of a cubic lattice and by the direction that
    their surface faces, so that the two sides of a thin sheet stay apart; a group is a Gaussian.

    Args:
        surface: surface of one frame.
        count: desired number of Gaussians; the result has about as many.
    """
    if len(surface.triangles) == 0 or count == 0:
        nothing = np.zeros((0, 3))
        return _gaussians(nothing, nothing, nothing, np.zeros(0))
    points, colors, normals, area = _points(surface, POINTS * count)
    facing = 2 * np.abs(normals).argmax(1) + (
        normals[np.arange(len(points)), np.abs(normals).argmax(1)] > 0
    )
    side = np.sqrt(area / count)
    group = _groups(points, facing, side)
    for _ in range(_ROUNDS):
        found = int(group.max()) + 1
        if abs(found - count) < 0.02 * count:
            break
        side *= np.sqrt(found / count)
        group = _groups(points, facing, side)
    size = np.bincount(group)
    means, mean_colors, mean_normals = (
        np.stack([np.bincount(group, axis) for axis in values.T], 1) / size[:, None]
        for values in (points, colors, normals)
    )
    unit = mean_normals / np.maximum(np.linalg.norm(mean_normals, axis=1, keepdims=True), 1e-20)
    spacing = np.sqrt(size * area / len(points))
    means -= _insets(means, unit, spacing)[:, None] * unit
    return _gaussians(means, mean_colors, unit, spacing)


def _insets(means: np.ndarray, normals: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return how far to move Gaussians inwards; those of a thin part must not pass one another."""
    reach = min(_NEIGHBORS, len(means))
    near = np.reshape(KDTree(means).query(means, reach)[1], (len(means), reach))
    opposite = np.einsum("ni,nki->nk", normals, normals[near]) < -0.5
    thickness = np.einsum("ni,nki->nk", normals, means[:, None] - means[near])
    thickness = np.where(opposite, np.abs(thickness), np.inf).min(1)
    return np.minimum(INSET * spacing, SHALLOW * thickness)


def _points(surface: LiftedSurface, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return evenly spread points, their colors in [0, 1], unit normals [P, 3], and the area."""
    corners = surface.vertices.astype(np.float64)[surface.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double = np.linalg.norm(normals, axis=1)
    total = np.cumsum(double)
    at = (np.arange(count) + 0.5) / count * total[-1]
    triangle = np.searchsorted(total, at).clip(0, len(total) - 1)
    index = np.arange(count)
    u, v = ((0.5 + index * ratio) % 1 for ratio in _GOLDEN)
    root = np.sqrt(u)
    weights = np.stack([1 - root, root * (1 - v), root * v], 1)[..., None]
    colors = (weights * surface.colors[surface.triangles[triangle]]).sum(1) / 255
    points = (weights * corners[triangle]).sum(1)
    unit = normals[triangle] / np.maximum(double[triangle], 1e-20)[:, None]
    return points, colors, unit, float(total[-1]) / 2


def _groups(points: np.ndarray, facing: np.ndarray, side: float) -> np.ndarray:
    cell = np.floor((points - points.min(0)) / side).astype(np.int64)
    extent = cell.max(0) + 1
    key = ((cell[:, 0] * extent[1] + cell[:, 1]) * extent[2] + cell[:, 2]) * 6 + facing
    return np.unique(key, return_inverse=True)[1].ravel()


def _gaussians(
    means: np.ndarray, colors: np.ndarray, normals: np.ndarray, spacing: np.ndarray
) -> Gaussians:
    # the rotation from the z axis to the normal; half a turn around x where they are opposite
    x, y, z = normals.T
    quats = np.stack([1 + z, -y, x, np.zeros(len(means))], 1)
    quats[z < -1 + 1e-9] = (0.0, 1.0, 0.0, 0.0)
    sigma = np.maximum(SPREAD * spacing, 1e-9)[:, None]
    return Gaussians(
        means=_tensor(means),
        quats=_tensor(quats),
        scales=_tensor(np.log(sigma * [1.0, 1.0, FLATNESS])),
        opacities=torch.logit(torch.full((len(means),), OPACITY)),
        sh0=rgb_to_sh0(_tensor(colors))[:, None],
        shN=torch.zeros(len(means), 0, 3),
    )


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
