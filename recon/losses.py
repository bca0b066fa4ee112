"""The image loss of a fit: L1, structural dissimilarity (D-SSIM) and L1 of alpha.

    loss = mean over V images of  w_v [ l1 · mean |x − y|  +  alpha · mean |A − A*|
                                       +  ssim · Σ_box (1 − SSIM(x, y)) / (3 H W) ]

Letters: V images, H × W pixels, x rendered, y target over the same background, A and A* their
alphas. SSIM has a Gaussian window of 11 taps with σ = 1.5 (Wang et al. 2004), with zeros outside
the image, and is summed over a box that contains the object: elsewhere both images are background.
Two implementations have one signature: PyTorch on any device, and the CPU kernel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recon.native.library import kernels
from recon.native.tensors import have_kernel, pointer

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
WINDOW_RADIUS = 5


@dataclass(frozen=True)
class LossWeights:
    """Weights of the three terms of the image loss."""

    l1: float = 0.8
    ssim: float = 0.2
    alpha: float = 0.3


class ImageLoss(NamedTuple):
    """The loss of V images.

    Attributes:
        total: the loss, a differentiable scalar.
        squared_error: mean squared color error of each image, without gradient, [V].
    """

    total: Tensor
    squared_error: Tensor


def image_loss(
    rgb: Tensor,
    alpha: Tensor,
    targets: Sequence[Tensor],
    backgrounds: Tensor,
    boxes: Tensor,
    image_weights: Tensor,
    weights: LossWeights,
) -> ImageLoss:
    """Compute the image loss, with the compiled kernel on the CPU if it was built.

    Args:
        rgb: rendered colors over `backgrounds`, [V, H, W, 3].
        alpha: rendered alpha, [V, H, W].
        targets: V images, RGBA, uint8, straight alpha, [H, W, 4] each.
        backgrounds: sRGB in [0, 1], [V, 3].
        boxes: boxes in which SSIM is evaluated, x0, y0, x1, y1 in pixels, half open, int32, [V, 4].
        image_weights: weight of each image, [V].
        weights: weights of the three terms.

    Returns:
        The loss of the module docstring, differentiable in `rgb` and `alpha`.
    """
    function = image_loss_cpu if have_kernel(rgb) else image_loss_reference
    return function(rgb, alpha, targets, backgrounds, boxes, image_weights, weights)


def image_loss_reference(
    rgb: Tensor,
    alpha: Tensor,
    targets: Sequence[Tensor],
    backgrounds: Tensor,
    boxes: Tensor,
    image_weights: Tensor,
    weights: LossWeights,
) -> ImageLoss:
    """Compute `image_loss` in plain PyTorch."""
    views, height, width, _ = rgb.shape
    straight = torch.stack(list(targets)).to(rgb) / 255
    true_alpha = straight[..., 3]
    target = straight[..., :3] * true_alpha[..., None]
    target = target + (1 - true_alpha[..., None]) * backgrounds[:, None, None]
    color = (rgb - target).abs().mean(dim=(1, 2, 3))
    coverage = (alpha - true_alpha).abs().mean(dim=(1, 2))
    inside = torch.zeros_like(alpha)
    for mask, (x0, y0, x1, y1) in zip(inside, boxes.tolist(), strict=True):
        mask[y0:y1, x0:x1] = 1
    dissimilarity = (1 - ssim_map(rgb.permute(0, 3, 1, 2), target.permute(0, 3, 1, 2))) * inside[
        :, None
    ]
    structure = dissimilarity.sum(dim=(1, 2, 3)) / (3 * height * width)
    each = weights.l1 * color + weights.ssim * structure + weights.alpha * coverage
    squares = (rgb - target).detach().square().mean(dim=(1, 2, 3))
    return ImageLoss((each * image_weights).sum() / views, squares)


def ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """Compute SSIM at each pixel of images in [0, 1], [V, C, H, W] each."""
    offsets = torch.arange(-WINDOW_RADIUS, WINDOW_RADIUS + 1, device=x.device, dtype=x.dtype)
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = window / window.sum()

    def blur(image: Tensor) -> Tensor:
        planes = image.reshape(-1, 1, *image.shape[-2:])
        planes = F.conv2d(planes, window.view(1, 1, 1, -1), padding=(0, WINDOW_RADIUS))
        planes = F.conv2d(planes, window.view(1, 1, -1, 1), padding=(WINDOW_RADIUS, 0))
        return planes.reshape(image.shape)

    mean_x, mean_y = blur(x), blur(y)
    covariance = blur(x * y) - mean_x * mean_y
    variance = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
    return ((2 * mean_x * mean_y + SSIM_C1) * (2 * covariance + SSIM_C2)) / (
        (mean_x**2 + mean_y**2 + SSIM_C1) * (variance + SSIM_C2)
    )


def image_loss_cpu(
    rgb: Tensor,
    alpha: Tensor,
    targets: Sequence[Tensor],
    backgrounds: Tensor,
    boxes: Tensor,
    image_weights: Tensor,
    weights: LossWeights,
) -> ImageLoss:
    """Compute `image_loss` with the compiled kernel; float32 tensors on the CPU."""
    return ImageLoss(
        *_ImageLoss.apply(rgb, alpha, targets, backgrounds, boxes, image_weights, weights)
    )


class _ImageLoss(torch.autograd.Function):
    """Image loss whose gradient is computed in the forward pass, from shared intermediates."""

    @staticmethod
    def forward(ctx: Any, rgb, alpha, targets, backgrounds, boxes, image_weights, weights):
        planar = rgb.detach().permute(0, 3, 1, 2).contiguous()
        coverage = alpha.detach().contiguous()
        views, _, height, width = planar.shape
        pixels = [target.contiguous() for target in targets]
        pointers = (ctypes.c_void_p * views)(*(target.data_ptr() for target in pixels))
        backgrounds, image_weights = backgrounds.contiguous(), image_weights.contiguous()
        boxes = boxes.to(torch.int32).contiguous()
        d_rgb, d_alpha = torch.empty_like(planar), torch.empty_like(coverage)
        losses, squares = torch.empty(2, views, dtype=torch.float64)
        kernels().function("image_loss")(
            views, height, width, *map(pointer, (planar, coverage)), pointers,
            *map(pointer, (backgrounds, boxes, image_weights)),
            *map(ctypes.c_float, (weights.l1, weights.ssim, weights.alpha)),
            *map(pointer, (d_rgb, d_alpha, losses, squares)),
        )  # fmt: skip
        ctx.save_for_backward(d_rgb.permute(0, 2, 3, 1), d_alpha)
        squares = squares.to(rgb.dtype)
        ctx.mark_non_differentiable(squares)
        return losses.sum().to(rgb.dtype), squares

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        d_rgb, d_alpha = ctx.saved_tensors
        if float(gradients[0]) == 1:  # as in every fit, which adds other terms to this loss
            return d_rgb, d_alpha, None, None, None, None, None
        return gradients[0] * d_rgb, gradients[0] * d_alpha, None, None, None, None, None
