"""Blending of rigid motions with softmax weights: what bones do to every Gaussian.

    w = softmax(logits),  B = Σ_k w_k motion_k,  x' = B_R x + B_t,  q' = normalised(B_q) q

Letters: N Gaussians, K bones. A motion is 16 numbers: a rotation matrix by rows (9), an offset (3)
and the same rotation as a quaternion wxyz (4); its signs must agree among the bones.
Two implementations, one signature: plain PyTorch and the CPU kernel.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recon.native.library import built, kernels
from recon.rotations import multiply_quats

MOTION = 16


def blend_bones(
    logits: Tensor, motions: Tensor, means: Tensor, quats: Tensor
) -> tuple[Tensor, Tensor]:
    """Moved Gaussians; the kernel for float32 on the CPU where it was built, else the reference.

    Args:
        logits: of the weights, [N, K].
        motions: of the bones, [K, 16].
        means: canonical centres, world units, [N, 3].
        quats: canonical rotations, wxyz, any length, [N, 4].

    Returns:
        Centres [N, 3] and rotations [N, 4] after the motion; differentiable in all arguments.
    """
    on_cpu = means.device.type == "cpu" and means.dtype == torch.float32 and built()
    function = blend_bones_cpu if on_cpu else blend_bones_reference
    return function(logits, motions, means, quats)


def blend_bones_reference(
    logits: Tensor, motions: Tensor, means: Tensor, quats: Tensor
) -> tuple[Tensor, Tensor]:
    """As `blend_bones`, in plain PyTorch."""
    blended = F.softmax(logits, dim=1) @ motions
    moved = (blended[:, :9].view(-1, 3, 3) @ means[:, :, None])[..., 0] + blended[:, 9:12]
    return moved, multiply_quats(F.normalize(blended[:, 12:], dim=-1), quats)


def blend_bones_cpu(
    logits: Tensor, motions: Tensor, means: Tensor, quats: Tensor
) -> tuple[Tensor, Tensor]:
    """As `blend_bones`, through the kernel; float32 on the CPU."""
    return _BlendBones.apply(logits, motions, means, quats)


class _BlendBones(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor):
        inputs = tuple(tensor.detach().contiguous() for tensor in inputs)
        logits, _, means, quats = inputs
        results = torch.empty_like(means), torch.empty_like(quats)
        _call("blend_bones", logits, *inputs, *results)
        ctx.save_for_backward(*inputs)
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        inputs = ctx.saved_tensors
        results = tuple(torch.empty_like(tensor) for tensor in inputs)
        given = (gradient.contiguous() for gradient in gradients)
        _call("blend_bones_gradient", inputs[0], *inputs, *given, *results)
        return results


def _call(name: str, logits: Tensor, *tensors: Tensor) -> None:
    pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors)
    kernels().function(name)(*logits.shape, *pointers)
