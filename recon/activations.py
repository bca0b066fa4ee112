"""Activation of stored Gaussians: what a rasterizer draws.

    scale = exp(s),  opacity = 1 / (1 + exp(−o)),  color = max(0, spherical harmonics)

On the CPU a compiled kernel computes all three: a dozen small PyTorch calls take longer than their
numbers. Letters: N Gaussians, V cameras.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from recon.gaussians import Gaussians, sh0_to_rgb
from recon.native.library import kernels
from recon.native.tensors import have_kernel, pointer
from recon.spherical_harmonics import sh_to_rgb


class Activated(NamedTuple):
    """Activated parameters of N Gaussians.

    Attributes:
        scales: standard deviations along the axes, [N, 3].
        opacities: peak opacities in (0, 1), [N].
        colors: non-negative sRGB, [N, 3], or [V, N, 3] if colors depend on the view.
    """

    scales: Tensor
    opacities: Tensor
    colors: Tensor


def activated(gaussians: Gaussians, viewmats: Tensor) -> Activated:
    """Activate Gaussians, differentiably.

    Args:
        gaussians: stored parameters, in the world of the cameras.
        viewmats: world-to-camera matrices, for colors that depend on the view, [V, 4, 4].
    """
    inputs = gaussians.scales, gaussians.opacities, gaussians.sh0
    if gaussians.sh_degree == 0 and have_kernel(*inputs):
        return Activated(*_Activate.apply(*inputs))
    return activated_reference(gaussians, viewmats)


def activated_reference(gaussians: Gaussians, viewmats: Tensor) -> Activated:
    """Compute `activated` in plain PyTorch."""
    colors = view_colors(gaussians, viewmats)
    return Activated(gaussians.scales.exp(), gaussians.opacities.sigmoid(), colors)


def view_colors(gaussians: Gaussians, viewmats: Tensor) -> Tensor:
    """Evaluate non-negative sRGB colors: [N, 3] at degree 0, else [V, N, 3] for each camera."""
    if gaussians.shN.shape[1] == 0:
        return sh0_to_rgb(gaussians.sh0[:, 0]).clamp_min(0)
    positions = -torch.einsum("vij,vi->vj", viewmats[:, :3, :3], viewmats[:, :3, 3])
    return sh_to_rgb(gaussians.sh, gaussians.means[None] - positions[:, None])


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor):
        scales, opacities, sh0 = plain = [tensor.detach().contiguous() for tensor in inputs]
        results = torch.empty_like(scales), torch.empty_like(opacities), torch.empty_like(scales)
        kernels().function("activate")(len(sh0), *map(pointer, (*plain, *results)))
        ctx.save_for_backward(*results)
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        scales, opacities, rgb = ctx.saved_tensors
        plain = [gradient.contiguous() for gradient in gradients]
        results = torch.empty_like(scales), torch.empty_like(opacities), torch.empty_like(rgb)
        tensors = scales, opacities, rgb, *plain, *results
        kernels().function("activate_gradient")(len(scales), *map(pointer, tensors))
        return *results[:2], results[2][:, None]
