"""Images of a scene or of Gaussians: stored parameters in, pictures out.

It activates the stored parameters (exp, sigmoid, spherical harmonics) and calls a rasterizer.
Letters: N Gaussians, V cameras, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recon.gaussians import Gaussians, sh0_to_rgb
from recon.grid.cameras import Camera
from recon.rasterizers import Rendering, rasterize
from recon.spherical_harmonics import sh_to_rgb


def camera_tensors(cameras: Sequence[Camera], like: Tensor) -> tuple[Tensor, Tensor]:
    """Viewmats [V, 4, 4] and intrinsics [V, 3, 3] of cameras, with the dtype of `like`."""
    viewmats = torch.as_tensor(np.stack([camera.viewmat for camera in cameras])).to(like)
    Ks = torch.as_tensor(np.stack([camera.K for camera in cameras])).to(like)
    return viewmats, Ks


def view_colors(gaussians: Gaussians, viewmats: Tensor) -> Tensor:
    """Colours in sRGB, not negative: [N, 3] at degree 0, else [V, N, 3] as each camera sees it."""
    if gaussians.shN.shape[1] == 0:
        return sh0_to_rgb(gaussians.sh0[:, 0]).clamp_min(0)
    centres = -torch.einsum("vij,vi->vj", viewmats[:, :3, :3], viewmats[:, :3, 3])
    return sh_to_rgb(gaussians.sh, gaussians.means[None] - centres[:, None])


def render_gaussians(
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    background: Sequence[float] = (1.0, 1.0, 1.0),
    backend: str = "auto",
) -> Rendering:
    """Draws stored Gaussians into cameras of one size.

    Args:
        gaussians: as stored (logarithmic scales, logit opacities).
        cameras: V of them, all of the same height and width.
        background: sRGB in [0, 1].
        backend: see `recon.rasterizers.rasterize`.

    Returns:
        V images on the Gaussians' device.
    """
    viewmats, Ks = camera_tensors(cameras, gaussians.means)
    return rasterize(
        gaussians.means,
        gaussians.quats,
        gaussians.scales.exp(),
        gaussians.opacities.sigmoid(),
        view_colors(gaussians, viewmats),
        viewmats,
        Ks,
        cameras[0].height,
        cameras[0].width,
        gaussians.means.new_tensor(background).expand(len(cameras), 3),
        backend=backend,
    )
