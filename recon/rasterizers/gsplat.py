"""CUDA backend: gsplat 1.4 or 1.5, all views in one call. The only module that imports gsplat.

gsplat compiles its kernels on first use if it has no prebuilt ones; failures become a
`BackendError`. gsplat 1.4 culls 16 × 16 pixel tiles beyond 3 standard deviations of a Gaussian; the
other backends render it down to `ALPHA_MIN`.

Letters: N Gaussians, V cameras, H × W pixels.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recon.errors import BackendError
from recon.rasterizers.interface import EPS_2D, NEAR, Rendering

WITHOUT = "or pass --device cpu"


def rasterize_gsplat(
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
    """Rasterize like `recon.rasterizers.rasterize`, with float32 CUDA tensors.

    Raises:
        BackendError: The tensors are not on CUDA, or gsplat is missing or cannot run here.
    """
    rasterization = _rasterization_on(means.device)
    if len(means) == 0:
        return _empty_images(means, len(viewmats), height, width, backgrounds)
    gradient: list[Tensor] = []
    if means2d is not None:
        means = _Means2dProbe.apply(means, means2d, gradient)
    images, alphas, info = rasterization(
        means=means,
        quats=quats,
        scales=scales,
        opacities=opacities,
        colors=colors,
        viewmats=viewmats,
        Ks=Ks,
        width=width,
        height=height,
        near_plane=NEAR,
        eps2d=EPS_2D,
        packed=False,
        backgrounds=backgrounds,
        render_mode="RGB+D",
        rasterize_mode="classic",
    )
    if means2d is not None and info["means2d"].requires_grad:
        info["means2d"].register_hook(lambda found: gradient.__setitem__(slice(None), [found]))
    return Rendering(rgb=images[..., :3], alpha=alphas[..., 0], depth=images[..., 3])


class _Means2dProbe(torch.autograd.Function):
    """Identity on the means whose backward pass gives `probe` the gradient of gsplat's `means2d`.

    gsplat projects internally, where no probe can be added. In the backward pass the gradient
    reaches the projected means before the means, so a hook on the former has filled `gradient` by
    the time this reads it.
    """

    @staticmethod
    def forward(ctx: Any, means: Tensor, probe: Tensor, gradient: list[Tensor]) -> Tensor:
        ctx.gradient = gradient
        return means.view_as(means)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor | None, None]:
        return grad_outputs[0], ctx.gradient[0] if ctx.gradient else None, None


def _empty_images(
    like: Tensor, views: int, height: int, width: int, backgrounds: Tensor | None
) -> Rendering:
    """Return the images of N = 0 Gaussians, for which gsplat's kernels fail."""
    rgb = like.new_zeros(views, height, width, 3)
    if backgrounds is not None:
        rgb = rgb + backgrounds[:, None, None]
    nothing = like.new_zeros(views, height, width)
    return Rendering(rgb=rgb, alpha=nothing, depth=nothing)


def _rasterization_on(device: torch.device) -> Callable[..., Any]:
    if device.type != "cuda":
        raise BackendError(
            f"gsplat needs CUDA tensors, found them on {device}; "
            "move them to CUDA or choose the rasterizer 'cpu' or 'reference'"
        )
    return _load()


@functools.cache
def _load() -> Callable[..., Any]:
    """Return `gsplat.rasterization` after loading or compiling its kernels."""
    if not torch.cuda.is_available():
        raise BackendError(
            f"gsplat needs a CUDA device, but torch finds none; check the driver {WITHOUT}"
        )
    try:
        with contextlib.redirect_stdout(sys.stderr):  # gsplat reports its build on stdout
            gsplat = importlib.import_module("gsplat")
            kernels = importlib.import_module("gsplat.cuda._backend")._C
    except ModuleNotFoundError as error:
        raise BackendError(
            f"gsplat cannot be imported, {error.name} is not installed; "
            f"pip install 'fourdvd[cuda]' {WITHOUT}"
        ) from error
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise BackendError(
            f"gsplat's CUDA kernels could not be built or loaded: {error}; "
            f"install a gsplat wheel made for torch {torch.__version__}, or a compiler and "
            f"the CUDA {torch.version.cuda} toolkit to build them, {WITHOUT}"
        ) from error
    if kernels is None:
        raise BackendError(
            "gsplat has no CUDA kernels and found no CUDA toolkit (nvcc) to build them; "
            f"install a gsplat wheel made for torch {torch.__version__}, or the CUDA "
            f"{torch.version.cuda} toolkit, {WITHOUT}"
        )
    return gsplat.rasterization
