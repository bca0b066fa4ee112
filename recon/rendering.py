"""Rendering of stored Gaussians: activate them and call a rasterizer.

Letters: N Gaussians, V cameras, H × W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recon.activations import activated
from recon.gaussians import Gaussians
from recon.grid.cameras import Camera
from recon.rasterizers import Rendering, rasterize

TYPICAL_SPREAD = 0.2  # median distance of coordinates from their median, for an object of radius 1


def camera_tensors(cameras: Sequence[Camera], like: Tensor) -> tuple[Tensor, Tensor]:
    """Stack viewmats [V, 4, 4] and intrinsics [V, 3, 3], with dtype and device of `like`."""
    viewmats = torch.as_tensor(np.stack([camera.viewmat for camera in cameras])).to(like)
    Ks = torch.as_tensor(np.stack([camera.K for camera in cameras])).to(like)
    return viewmats, Ks


def render_gaussians(
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    background: Sequence[float] = (1.0, 1.0, 1.0),
    backend: str = "auto",
) -> Rendering:
    """Render Gaussians into cameras of the same image size.

    Args:
        gaussians: stored parameters (logarithmic scales, logit opacities).
        cameras: V cameras with the same height and width.
        background: sRGB in [0, 1].
        backend: see `recon.rasterizers.rasterize`.

    Returns:
        V images on the device of the Gaussians, differentiable in them; depth in world units.
    """
    viewmats, Ks = camera_tensors(cameras, gaussians.means)
    scales, opacities, colors = activated(gaussians, viewmats)
    unit = rendering_unit(gaussians)
    viewmats[:, :3, 3] /= unit
    rendering = rasterize(
        gaussians.means / unit,
        gaussians.quats,
        scales / unit,
        opacities,
        colors,
        viewmats,
        Ks,
        cameras[0].height,
        cameras[0].width,
        gaussians.means.new_tensor(background).expand(len(cameras), 3),
        backend=backend,
    )
    return rendering._replace(depth=rendering.depth * unit)


@torch.no_grad()
def rendering_unit(gaussians: Gaussians) -> float:
    """Return the world units in a unit of the rasterizer, whose near plane is `NEAR` units away.

    It is the power of two, so that nothing is rounded, for which most Gaussians lie within about
    a unit of each other; 1 for a single point.
    """
    if len(gaussians.means) == 0:
        return 1.0
    means = gaussians.means
    spread = float((means - means.median(dim=0).values).abs().median())
    if not 0 < spread < math.inf:
        return 1.0
    return 2.0 ** round(math.log2(spread / TYPICAL_SPREAD))
