"""Differentiable rasterization of 3D Gaussians: one function, three backends that agree.

`gsplat` on CUDA, `cpu` (own kernel) and `reference` (plain PyTorch, any device and dtype, the
oracle).
"""

from recon.rasterizers.interface import Rendering, backend_for, rasterize, rasterizers

__all__ = ["Rendering", "backend_for", "rasterize", "rasterizers"]
