"""Rasterization of Gaussians, with a selectable backend.

Letters: N Gaussians, V cameras, H × W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recon.errors import BackendError
from recon.native.library import built
from recon.rasterizers.cpu import rasterize_cpu
from recon.rasterizers.gsplat import rasterize_gsplat
from recon.rasterizers.interface import Rendering
from recon.rasterizers.reference import rasterize_reference

rasterizers = {
    "gsplat": rasterize_gsplat,
    "cpu": rasterize_cpu,
    "reference": rasterize_reference,
}


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
    """Rasterize N Gaussians into V images.

    Args:
        means: centers in world coordinates, [N, 3].
        quats: rotations, wxyz, of any nonzero length, [N, 4].
        scales: standard deviations in world units, linear and positive, [N, 3].
        opacities: peak opacities in [0, 1], [N].
        colors: [N, 3], or view-dependent [V, N, 3].
        viewmats: world-to-camera matrices, OpenCV axes, [V, 4, 4].
        Ks: intrinsics in pixels, [V, 3, 3].
        height: H in pixels.
        width: W in pixels.
        backgrounds: background colors, [V, 3]; None: black.
        means2d: zeros, [V, N, 2], whose gradient is set to that of the projected means in pixels,
            for densification; None: not computed.
        backend: a key of `rasterizers`, or "auto": gsplat for CUDA tensors, the CPU kernel for
            CPU tensors, and the reference if the kernel was not built.

    Returns:
        The images, differentiable with respect to all tensors but `viewmats` and `Ks`.

    Raises:
        BackendError: The backend is unknown or not available on this machine.
    """
    name = backend_for(means.device) if backend == "auto" else backend
    if name not in rasterizers:
        raise BackendError(f"unknown rasterizer {name!r}; expected one of {sorted(rasterizers)}")
    return rasterizers[name](
        means, quats, scales, opacities, colors, viewmats, Ks, height, width, backgrounds, means2d
    )


def backend_for(device: torch.device | str) -> str:
    """Return the backend that "auto" selects for tensors on a device."""
    if torch.device(device).type == "cuda":
        return "gsplat"
    if torch.device(device).type == "cpu" and built():
        return "cpu"
    return "reference"
