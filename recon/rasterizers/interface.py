"""The one function that draws Gaussians, and the choice of who does it.

Letters: N Gaussians, V cameras, H × W pixels. Conventions are gsplat's: EWA projection with
`EPS_2D` pixels² added to the diagonal of the projected covariance, pixel centres at +0.5, a
contribution below `ALPHA_MIN` is skipped, a pixel is finished when its transmittance would fall to
`TRANSMITTANCE_MIN`.
"""

from __future__ import annotations

import importlib
from typing import NamedTuple

import torch
from torch import Tensor

from recon.errors import BackendError

EPS_2D = 0.3
ALPHA_MIN = 1.0 / 255.0
ALPHA_MAX = 0.999
TRANSMITTANCE_MIN = 1e-4
NEAR = 0.01

rasterizers = {
    "gsplat": "recon.rasterizers.gsplat:rasterize_gsplat",
    "cpu": "recon.rasterizers.cpu:rasterize_cpu",
    "reference": "recon.rasterizers.reference:rasterize_reference",
}


class Rendering(NamedTuple):
    """V images of the Gaussians.

    Attributes:
        rgb: colour over the background, [V, H, W, 3].
        alpha: one minus the transmittance that is left, [V, H, W].
        depth: sum of z times weight, not divided by alpha, world units, [V, H, W].
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor


def rasterize(
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
    backend: str = "auto",
) -> Rendering:
    """Draws N Gaussians into V images.

    Args:
        means: centres in the world, [N, 3].
        quats: wxyz, any length but 0, [N, 4].
        scales: standard deviations, linear, positive, [N, 3].
        opacities: peak opacity in [0, 1], [N].
        colors: [N, 3], or [V, N, 3] where the colour depends on the view.
        viewmats: world-to-camera, OpenCV axes, [V, 4, 4].
        Ks: intrinsics in pixels, [V, 3, 3].
        height: H in pixels.
        width: W in pixels.
        backgrounds: colour behind everything, [V, 3]; black if None.
        means2d: zeros of shape [V, N, 2] whose gradient becomes that of the projected centres in
            pixels (densification asks for it); None if it is not needed.
        backend: a key of `rasterizers`, or "auto": gsplat for CUDA tensors, else the CPU kernel,
            or the reference where the kernel was not built.

    Returns:
        The images, differentiable in all tensors but `viewmats` and `Ks`.

    Raises:
        BackendError: the backend is not available on this machine.
    """
    name = backend_for(means.device) if backend == "auto" else backend
    function = _find(name)
    return function(
        means, quats, scales, opacities, colors, viewmats, Ks, height, width, backgrounds, means2d
    )


def backend_for(device: torch.device | str) -> str:
    """The name of the backend that "auto" means on a device."""
    if torch.device(device).type == "cuda":
        return "gsplat"
    if (
        torch.device(device).type == "cpu"
        and importlib.import_module("recon.rasterizers.cpu").available()
    ):
        return "cpu"
    return "reference"


def _find(name: str):
    if name not in rasterizers:
        raise BackendError(f"unknown rasterizer {name!r}; expected one of {sorted(rasterizers)}")
    module, _, function = rasterizers[name].partition(":")
    return getattr(importlib.import_module(module), function)
