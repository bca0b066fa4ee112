"""Vertices that follow Gaussians: each is bound to its nearest ones and moves as they do.

    x(t) = Σ_k w_k (R_k(t) (x − μ_k) + μ_k(t))

Letters: P vertices, N Gaussians, k neighbours; R_k(t) turns Gaussian k from its canonical rotation
to the one at time t. What it does not know: what the vertices are for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from recon.gaussians import Gaussians
from recon.rotations import invert_quats, multiply_quats, quats_to_matrices

NEIGHBORS = 4  # more of them mix the motions of neighbouring parts and shrink the turning ones
OPACITY_MIN = 0.1  # fainter Gaussians are fog: nothing in the images holds their motion


class Binding(NamedTuple):
    """P points and the Gaussians that carry them.

    Attributes:
        points: canonical positions, [P, 3].
        indices: of the Gaussians, int64, [P, k].
        weights: not negative, sum to 1, [P, k].
    """

    points: Tensor
    indices: Tensor
    weights: Tensor


def bind_points(points: np.ndarray, gaussians: Gaussians, neighbours: int = NEIGHBORS) -> Binding:
    """Binds points to the nearest Gaussians that are not fog.

    Args:
        points: canonical positions, [P, 3].
        gaussians: the canonical ones.
        neighbours: k, at most.

    Returns:
        Weights fall off as a Gaussian of the distance, as wide as the middle neighbour is far.
    """
    opacities = gaussians.opacities.detach().sigmoid().cpu().numpy()
    solid = np.flatnonzero(opacities > min(OPACITY_MIN, opacities.max() / 2))
    means = gaussians.means.detach().cpu().numpy()[solid]
    count = min(neighbours, len(solid))
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
    """Where the bound points are when the Gaussians are at `moved`, [P, 3].

    Args:
        binding: from `bind_points` with the same canonical Gaussians.
        canonical: N Gaussians.
        moved: the same N at another time.
    """
    unit = torch.nn.functional.normalize(canonical.quats, dim=-1)
    turn = quats_to_matrices(multiply_quats(moved.quats, invert_quats(unit)))
    arms = binding.points[:, None] - canonical.means[binding.indices]
    places = torch.einsum("pkij,pkj->pki", turn[binding.indices], arms)
    places = places + moved.means[binding.indices]
    return (binding.weights[..., None] * places).sum(dim=1)
