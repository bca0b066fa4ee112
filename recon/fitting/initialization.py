"""The first Gaussians of a fit: a sample of the visual hull, or of Gaussians that come with a grid.

Letters: N Gaussians. Frame: that of the points.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from recon.fitting.config import FitConfig
from recon.fitting.visual_hull import Hull
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid.initial_gaussians import InitialGaussians

INNER_VOXEL_WEIGHT = 0.2  # probability of an inner voxel of the hull relative to a surface voxel


def sample_given(
    given: InitialGaussians, config: FitConfig, generator: torch.Generator
) -> Gaussians:
    """Sample some of the Gaussians that come with a grid, enlarged to cover as much as all."""
    tensors = {name: torch.from_numpy(array).float() for name, array in given.arrays.items()}
    count = len(given.means)
    chosen = torch.randperm(count, generator=generator)[: config.initial_gaussians]
    tensors = {name: tensor[chosen] for name, tensor in tensors.items()}
    tensors["scales"] = tensors["scales"] + math.log(count / len(chosen)) / 2
    higher = (config.sh_degree + 1) ** 2 - 1
    return Gaussians(**tensors, shN=torch.zeros(len(chosen), higher, 3))


def sample_hull(hull: Hull, config: FitConfig, generator: torch.Generator) -> Gaussians:
    """Sample points of the hull, mostly on its surface, jittered inside their voxels."""
    count = config.initial_gaussians
    weights = torch.from_numpy(np.where(hull.on_surface, 1.0, INNER_VOXEL_WEIGHT))
    chosen = torch.multinomial(
        weights, count, replacement=count > len(weights), generator=generator
    )
    jitter = (torch.rand(count, 3, generator=generator) - 0.5) * hull.voxel_size
    points = torch.from_numpy(hull.points[chosen]).float() + jitter
    volume = len(hull.points) * hull.voxel_size**3
    sigma = 0.6 * (volume / count) ** (1 / 3)
    rgb = torch.from_numpy(hull.rgb[chosen]).float()
    return gaussians_from_points(points, rgb, sigma, opacity=0.5, sh_degree=config.sh_degree)
