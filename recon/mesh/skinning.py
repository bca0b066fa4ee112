"""Skinning: vertices are bound to their nearest Gaussians and move rigidly with them.

    x(t) = Σ_k w_k (R_k(t) (x − μ_k) + μ_k(t))

If the Gaussians follow bones, so can the vertices, whose weights are fitted to this motion.
Letters: P vertices, N Gaussians, k neighbors, K bones, T times; R_k(t) rotates Gaussian k from its
orientation at rest to the one at time t.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from scipy.spatial import KDTree
from torch import Tensor

from recon.gaussians import Gaussians
from recon.rotations import invert_quats, multiply_quats, quats_to_matrices

NEIGHBORS = 4  # more would mix the motions of adjacent parts and shrink rotating ones
OPACITY_MIN = 0.1  # the images do not constrain the motion of Gaussians with less opacity
INFLUENCES = 8  # bones of a vertex, two sets of joints in glTF
WEIGHT_PRIOR = 0.03  # pull to the given weights, relative to the size of the object


class Binding(NamedTuple):
    """P points with their Gaussians and skinning weights.

    Attributes:
        points: canonical positions, [P, 3].
        indices: indices of the Gaussians, int64, [P, k].
        weights: skinning weights, non-negative, summing to 1 over k, [P, k].
    """

    points: Tensor
    indices: Tensor
    weights: Tensor


def bind_points(points: np.ndarray, gaussians: Gaussians, neighbors: int = NEIGHBORS) -> Binding:
    """Bind points to their nearest Gaussians, leaving out nearly transparent ones.

    A weight is proportional to o · exp(−d² / 2m²), with the opacity o and the distance d of the
    Gaussian, and the median distance m of the point's neighbors.

    Args:
        points: canonical positions, [P, 3].
        gaussians: canonical Gaussians.
        neighbors: maximum number of Gaussians per point, k.
    """
    opacities = gaussians.opacities.detach().sigmoid().cpu().numpy()
    solid = np.flatnonzero(opacities > min(OPACITY_MIN, opacities.max() / 2))
    means = gaussians.means.detach().cpu().numpy()[solid]
    count = min(neighbors, len(solid))
    distances, indices = KDTree(means).query(points, k=count)
    distances, indices = (found.reshape(-1, count) for found in (distances, indices))  # k = 1 too
    width = np.median(distances, axis=1, keepdims=True)
    weights = opacities[solid][indices] * np.exp(-0.5 * (distances / np.maximum(width, 1e-12)) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    like = gaussians.means.detach()
    return Binding(
        torch.as_tensor(points).to(like),
        torch.as_tensor(solid[indices], device=like.device),
        torch.as_tensor(weights).to(like),
    )


def move_points(binding: Binding, canonical: Gaussians, moved: Gaussians) -> Tensor:
    """Move bound points with their Gaussians.

    Args:
        binding: result of `bind_points` for the same canonical Gaussians.
        canonical: N canonical Gaussians.
        moved: the same Gaussians at another time.

    Returns:
        Positions, [P, 3].
    """
    unit = torch.nn.functional.normalize(canonical.quats, dim=-1)
    rotations = quats_to_matrices(multiply_quats(moved.quats, invert_quats(unit)))
    offsets = binding.points[:, None] - canonical.means[binding.indices]
    positions = torch.einsum("pkij,pkj->pki", rotations[binding.indices], offsets)
    positions = positions + moved.means[binding.indices]
    return (binding.weights[..., None] * positions).sum(dim=1)


def strongest_influences(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the at most `INFLUENCES` bones with the largest weights of each vertex, and these.

    Args:
        weights: skinning weights, [P, K].

    Returns:
        Indices of the bones, the strongest first, and their weights, [P, k] each.
    """
    count = min(INFLUENCES, weights.shape[1])
    chosen = np.argsort(-weights, axis=1, kind="stable")[:, :count]
    return chosen, np.take_along_axis(weights, chosen, axis=1)


def fit_weights(
    weights: np.ndarray, rest: np.ndarray, positions: np.ndarray, motions: np.ndarray
) -> np.ndarray:
    """Fit skinning weights with at most `INFLUENCES` bones per vertex to the motion of vertices.

    Non-negative least squares for each vertex, over the bones with the largest given weights, as in
    the weight step of smooth skinning decomposition (Le and Deng 2012, eq. 5), with a pull to the
    given weights where the motion does not determine them.

    Args:
        weights: weights to start from, non-negative, [P, K].
        rest: vertices at rest, [P, 3].
        positions: vertices at all times, [T, P, 3].
        motions: rigid motions of the bones from rest to each time, [T, K, 4, 4].

    Returns:
        Non-negative weights that sum to 1, [P, K].
    """
    chosen, prior = strongest_influences(weights)
    count = chosen.shape[1]
    prior /= prior.sum(axis=1, keepdims=True)
    size = float(np.linalg.norm(np.ptp(rest, axis=0))) or 1.0
    pull = WEIGHT_PRIOR * size
    extra = np.concatenate([np.full((1, count), 1e3 * size), pull * np.eye(count)])  # Σ w = 1
    result = np.zeros_like(weights)
    for vertex, bones in enumerate(chosen):
        moves = motions[:, bones]
        carried = moves[..., :3, :3] @ rest[vertex] + moves[..., :3, 3]
        matrix = np.concatenate([carried.transpose(0, 2, 1).reshape(-1, count), extra])
        target = [positions[:, vertex].ravel(), [1e3 * size], pull * prior[vertex]]
        result[vertex, bones] = nnls(matrix, np.concatenate(target))[0]
    return result / result.sum(axis=1, keepdims=True)
