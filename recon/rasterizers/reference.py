"""Reference rasterizer in plain PyTorch: any device, any floating dtype, autograd throughout.

It evaluates every Gaussian at every pixel: slow, but easy to check. The other backends are tested
against it. Letters: N Gaussians, V cameras, P = H·W pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recon.rasterizers.interface import (
    ALPHA_MAX,
    ALPHA_MIN,
    EPS_2D,
    NEAR,
    TRANSMITTANCE_MIN,
    Rendering,
)
from recon.rotations import quats_to_matrices

PIXELS_AT_ONCE = 2**22  # pixel-Gaussian pairs; bounds the memory, not the result


class Projection(NamedTuple):
    """N Gaussians projected into one camera.

    Attributes:
        means2d: projected means in pixels, [N, 2].
        conics: a, b, c of the inverse covariance [[a, b], [b, c]] in 1 / pixels², [N, 3].
        depths: z in camera coordinates, [N].
        visible: whether a Gaussian is in front of the camera and not degenerate, bool, [N].
    """

    means2d: Tensor
    conics: Tensor
    depths: Tensor
    visible: Tensor


def rasterize_reference(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    height: int,
    width: int,
    backgrounds: Tensor | None = None,
    means2d: Tensor | None = None,
) -> Rendering:
    """Rasterize like `recon.rasterizers.rasterize`, on any device and in any floating dtype."""
    images = []
    for view, (viewmat, K) in enumerate(zip(viewmats, Ks, strict=True)):
        projection = project(means, quats, scales, viewmat, K, height, width)
        if means2d is not None:
            projection = projection._replace(means2d=projection.means2d + means2d[view])
        rgb = colors if colors.ndim == 2 else colors[view]
        background = means.new_zeros(3) if backgrounds is None else backgrounds[view]
        images.append(_composite(projection, opacities, rgb, background, height, width))
    return Rendering(*(torch.stack(parts) for parts in zip(*images, strict=True)))


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    viewmat: Tensor,
    K: Tensor,
    height: int,
    width: int,
) -> Projection:
    """Project Gaussians into one camera by EWA splatting.

    The Jacobian is evaluated at a slope clamped to 1.3 times the field of view, as in gsplat.
    Source: Zwicker et al., "EWA volume splatting", 2001; 3D Gaussian splatting, equation 5.
    """
    rotation, translation = viewmat[:3, :3], viewmat[:3, 3]
    x, y, z = (means @ rotation.T + translation).unbind(-1)
    visible = z > NEAR
    z = torch.where(visible, z, torch.ones_like(z))
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    slope_x = _clamped_slope(x / z, fx, cx, width)
    slope_y = _clamped_slope(y / z, fy, cy, height)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [fx / z, zero, -fx * slope_x / z, zero, fy / z, -fy * slope_y / z], dim=-1
    ).reshape(-1, 2, 3)
    axes = jacobian @ rotation @ quats_to_matrices(quats) * scales[:, None, :]  # [N, 2, 3]
    covariance = axes @ axes.transpose(1, 2)
    a = covariance[:, 0, 0] + EPS_2D
    b = covariance[:, 0, 1]
    c = covariance[:, 1, 1] + EPS_2D
    determinant = a * c - b * b
    visible = visible & (determinant > 0)
    determinant = torch.where(visible, determinant, torch.ones_like(determinant))
    conics = torch.stack([c, -b, a], dim=-1) / determinant[:, None]
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)
    return Projection(means2d, conics, z, visible)


def _clamped_slope(slope: Tensor, focal: Tensor, center: Tensor, size: int) -> Tensor:
    margin = 0.15 * size / focal  # 0.3 of tan(fov / 2)
    low, high = -(center / focal + margin), (size - center) / focal + margin
    return torch.minimum(torch.maximum(slope, low), high)


def _composite(
    projection: Projection,
    opacities: Tensor,
    rgb: Tensor,
    background: Tensor,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor, Tensor]:
    order = torch.argsort(projection.depths, stable=True)
    order = order[projection.visible[order]]
    ys, xs = torch.meshgrid(
        torch.arange(height, device=rgb.device),
        torch.arange(width, device=rgb.device),
        indexing="ij",
    )
    pixels = torch.stack([xs, ys], dim=-1).reshape(-1, 2).to(rgb.dtype) + 0.5
    features = torch.cat([rgb, projection.depths[:, None]], dim=-1)[order]
    chunk = max(1, PIXELS_AT_ONCE // max(1, len(order)))
    parts = [
        _blend(
            projection.means2d[order], projection.conics[order], opacities[order], features, some
        )
        for some in pixels.split(chunk)
    ]
    blended, transmittance = (torch.cat(part) for part in zip(*parts, strict=True))
    image = blended[:, :3] + transmittance[:, None] * background
    return (
        image.reshape(height, width, 3),
        (1 - transmittance).reshape(height, width),
        blended[:, 3].reshape(height, width),
    )


def _blend(
    means2d: Tensor, conics: Tensor, opacities: Tensor, features: Tensor, pixels: Tensor
) -> tuple[Tensor, Tensor]:
    """Blend depth-sorted Gaussians at some pixels: features [P, C] and transmittance [P]."""
    dx, dy = (pixels[:, None, :] - means2d[None]).unbind(-1)
    a, b, c = conics.unbind(-1)
    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities * torch.exp(-sigma)).clamp_max(ALPHA_MAX)
    alpha = torch.where((alpha >= ALPHA_MIN) & (sigma >= 0), alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, dim=1)
    alpha = torch.where(after > TRANSMITTANCE_MIN, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    transmittance = after[:, -1] if after.shape[1] else torch.ones_like(pixels[:, 0])
    return (before * alpha) @ features, transmittance
