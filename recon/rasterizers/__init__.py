"""Rasterizers: differentiable for 3D Gaussians, and not differentiable for triangle meshes.

`rasterize` renders Gaussians with `gsplat` on CUDA, with our kernel on the CPU (`cpu`), or in plain
PyTorch (`reference`, on any device; the others are tested against it). `recon.rasterizers.mesh`
renders triangles and is tested against `mesh_reference`.
"""

from recon.rasterizers.dispatch import backend_for, rasterize, rasterizers
from recon.rasterizers.interface import Rendering

__all__ = ["Rendering", "backend_for", "rasterize", "rasterizers"]
