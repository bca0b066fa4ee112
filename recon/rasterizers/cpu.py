"""CPU backend: the autograd function around the kernel in `recon/native/src/rasterize.cpp`.

Computes in float32. The kernel keeps a workspace between forward and backward pass; workspaces are
pooled, so that a fit does not allocate memory in every step, until `free_workspaces`.
Letters: N Gaussians, V cameras, H × W pixels.
"""

from __future__ import annotations

import ctypes
from typing import Any, ClassVar

import torch
from torch import Tensor

from recon.native.library import kernels
from recon.rasterizers.interface import Rendering


def rasterize_cpu(
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
    """Rasterize like `recon.rasterizers.rasterize`; float32 CPU tensors, H and W below 65,536.

    Raises:
        BackendError: The kernel was not built.
        TypeError: A tensor is not float32 or not on the CPU.
    """
    if backgrounds is None:
        backgrounds = means.new_zeros(len(viewmats), 3)
    images = _Rasterize.apply(
        means, quats, scales, opacities, colors, backgrounds, means2d, viewmats, Ks, height, width
    )
    rgb, alpha, depth = images
    return Rendering(rgb.permute(0, 2, 3, 1), alpha, depth)


class _Workspace:
    """Kernel memory of a forward pass and its backward pass; deletion returns it to the pool."""

    _free: ClassVar[list[int]] = []

    def __init__(self) -> None:
        self.handle = ctypes.c_void_p()  # `__del__` reads it if `kernels` raises
        create = kernels().function("rasterizer_create", ctypes.c_void_p)
        self.handle = ctypes.c_void_p(self._free.pop() if self._free else create())

    def __del__(self) -> None:
        if self.handle.value is not None:
            self._free.append(self.handle.value)


def free_workspaces() -> None:
    """Free the memory that the kernel keeps between calls, that of the largest image so far."""
    free, _Workspace._free = _Workspace._free, []
    for handle in free:
        kernels().function("rasterizer_destroy")(ctypes.c_void_p(handle))


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, means, quats, scales, opacities, colors, backgrounds, means2d, viewmats, Ks,
        height, width,
    ):  # fmt: skip
        inputs = [_plain(x) for x in (means, quats, scales, opacities, colors)]
        cameras = [_plain(x) for x in (viewmats, Ks, backgrounds)]
        views, count = viewmats.shape[0], means.shape[0]
        rgb = torch.empty(views, 3, height, width)
        alpha, depth = torch.empty(views, height, width), torch.empty(views, height, width)
        workspace = _Workspace()
        kernels().function("rasterize")(
            workspace.handle, views, count, height, width,
            *map(_pointer, inputs), int(colors.ndim == 3), *map(_pointer, cameras),
            _pointer(rgb), _pointer(alpha), _pointer(depth),
        )  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, rgb, alpha, depth)
        ctx.workspace, ctx.views, ctx.wants_means2d = workspace, views, means2d is not None
        return rgb, alpha, depth

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None):
        means, quats, scales, opacities, colors, rgb, alpha, depth = ctx.saved_tensors
        d_rgb, d_alpha, d_depth = gradients
        d_rgb = torch.zeros_like(rgb) if d_rgb is None else _plain(d_rgb)
        d_alpha, d_depth = (None if d is None else _plain(d) for d in (d_alpha, d_depth))
        results = [torch.empty_like(x) for x in (means, quats, scales, opacities, colors)]
        d_means2d = torch.empty(ctx.views, means.shape[0], 2) if ctx.wants_means2d else None
        kernels().function("rasterize_gradient")(
            ctx.workspace.handle,
            *map(_pointer, (rgb, alpha, depth, d_rgb, d_alpha, d_depth, *results, d_means2d)),
        )
        d_backgrounds = None
        if ctx.needs_input_grad[5]:
            d_backgrounds = torch.einsum("vchw,vhw->vc", d_rgb, 1 - alpha)
        return *results, d_backgrounds, d_means2d, None, None, None, None


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous()


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    if tensor is None:
        return ctypes.c_void_p(None)
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise TypeError(
            f"the CPU rasterizer needs float32 on the CPU, found {tensor.dtype} on {tensor.device}"
        )
    return ctypes.c_void_p(tensor.data_ptr())
