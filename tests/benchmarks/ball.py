"""The scene of the rasterizer benchmark: a ball of random Gaussians, seen from around it.

It depends only on numpy's generator and the order of the draws, so that another program can build
the same scene. Letters: N Gaussians, V cameras, images of S × S pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

RADIUS = 0.8
DISTANCE = 3.2
FOV_DEG = 33.8
SCALE_MEDIAN, SCALE_SPREAD = 0.02, 0.4  # of the log-normal standard deviations
OPACITIES = 0.1, 0.95


class Ball(NamedTuple):
    """Activated parameters for `recon.rasterizers.rasterize`: leaf tensors that require gradients.

    Attributes:
        means: uniform in the ball, [N, 3].
        quats: uniform, not normalized, wxyz, [N, 4].
        scales: standard deviations in world units, [N, 3].
        opacities: in [0, 1], [N].
        colors: uniform in [0, 1], [N, 3].
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor


def ball(N: int, seed: int = 0) -> Ball:
    """Draw N random Gaussians, float32."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(N, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    arrays = (
        RADIUS * rng.uniform(size=(N, 1)) ** (1 / 3) * directions,
        rng.normal(size=(N, 4)),
        np.exp(rng.normal(np.log(SCALE_MEDIAN), SCALE_SPREAD, size=(N, 3))),
        rng.uniform(*OPACITIES, size=N),
        rng.uniform(size=(N, 3)),
    )
    return Ball(*(torch.from_numpy(array.astype(np.float32)).requires_grad_() for array in arrays))


def cameras(V: int, S: int) -> tuple[Tensor, Tensor]:
    """Viewmats [V, 4, 4] evenly around the ball, the first along +Z, and intrinsics [V, 3, 3]."""
    angles = 2 * np.pi * np.arange(V) / V
    viewmats = np.tile(np.eye(4), (V, 1, 1))
    viewmats[:, 0, 0] = viewmats[:, 2, 2] = np.cos(angles)
    viewmats[:, 0, 2], viewmats[:, 2, 0] = np.sin(angles), -np.sin(angles)
    viewmats[:, 2, 3] = DISTANCE
    focal_px = S / 2 / np.tan(np.radians(FOV_DEG) / 2)
    K = np.array([[focal_px, 0, S / 2], [0, focal_px, S / 2], [0, 0, 1]])
    return torch.from_numpy(viewmats).float(), torch.from_numpy(np.tile(K, (V, 1, 1))).float()
