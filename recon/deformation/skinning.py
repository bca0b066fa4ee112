"""Linear blend skinning: motions of bones, their blending, and the gaps between neighboring bones.

Each function has two implementations with one signature: plain PyTorch and a CPU kernel, which is
used for float32 tensors on the CPU if it was compiled. A fit takes many steps with few numbers, so
that PyTorch would spend more time on calls than on numbers.

Letters: N Gaussians, K bones, k neighbors of a bone; c centers of the bones, t their translations,
q (or R) their rotations. Frame: world; a bone rotates about its center.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recon.deformation.poses import align_quats
from recon.native.library import kernels
from recon.native.tensors import have_kernel, pointer
from recon.rotations import multiply_quats, quats_to_matrices

GAP_SOFTNESS = 1e-8  # added to the square of a gap, against an infinite derivative at 0


def bone_motions(centers: Tensor, translations: Tensor, quats: Tensor) -> Tensor:
    """Compute the motions of bones, x ↦ R (x − c) + c + t, as `blend_bones` takes them.

    Args:
        centers: c in world units, [K, 3].
        translations: t in world units, [K, 3].
        quats: q, wxyz, any length, [K, 4].

    Returns:
        Motions, [K, 16]; differentiable in translations and rotations.
    """
    if have_kernel(translations):
        return _BoneMotions.apply(centers, translations, quats)
    return bone_motions_reference(centers, translations, quats)


def bone_motions_reference(centers: Tensor, translations: Tensor, quats: Tensor) -> Tensor:
    """Compute `bone_motions` in plain PyTorch."""
    units = F.normalize(quats, dim=-1)
    units = align_quats(units, units[:1])  # so that they can be averaged
    rotations = quats_to_matrices(units)
    offsets = centers + translations - (rotations @ centers[..., None])[..., 0]
    return torch.cat([rotations.flatten(1), offsets, units], dim=1)


def neighbor_gap(centers: Tensor, translations: Tensor, quats: Tensor, neighbors: Tensor) -> Tensor:
    """Compute how far bones are from where their neighbors expect them.

    A bone predicts the centers of its neighbors as if they moved with it.

    Args:
        centers: c in world units, [K, 3].
        translations: t in world units, [K, 3].
        quats: q, wxyz, any length, [K, 4].
        neighbors: indices of the neighbors of each bone, int64, [K, k].

    Returns:
        Mean distance in world units, a scalar; differentiable in translations and rotations.
    """
    if have_kernel(translations):
        return _NeighborGap.apply(centers, translations, quats, neighbors)
    return neighbor_gap_reference(centers, translations, quats, neighbors)


def neighbor_gap_reference(
    centers: Tensor, translations: Tensor, quats: Tensor, neighbors: Tensor
) -> Tensor:
    """Compute `neighbor_gap` in plain PyTorch."""
    moved = centers + translations
    edges = centers[neighbors] - centers[:, None]  # [K, k, 3]
    predicted = moved[:, None] + edges @ quats_to_matrices(quats).transpose(1, 2)
    squares = (predicted - moved[neighbors]).square().sum(-1)
    return (squares + GAP_SOFTNESS).sqrt().mean()


def blend_bones(
    logits: Tensor, motions: Tensor, means: Tensor, quats: Tensor
) -> tuple[Tensor, Tensor]:
    """Blend rigid motions with softmax weights.

    Args:
        logits: logits of the weights, [N, K].
        motions: motions of the bones, [K, 16]: rotation matrix by rows (9), offset (3), the same
            rotation as a quaternion wxyz (4) whose sign agrees among the bones.
        means: canonical means in world units, [N, 3].
        quats: canonical rotations, wxyz, any length, [N, 4].

    Returns:
        Moved means [N, 3] and rotations [N, 4]; differentiable in all arguments.
    """
    function = _BlendBones.apply if have_kernel(means) else blend_bones_reference
    return function(logits, motions, means, quats)


def blend_bones_reference(
    logits: Tensor, motions: Tensor, means: Tensor, quats: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute `blend_bones` in plain PyTorch."""
    blended = F.softmax(logits, dim=1) @ motions
    moved = (blended[:, :9].view(-1, 3, 3) @ means[:, :, None])[..., 0] + blended[:, 9:12]
    return moved, multiply_quats(F.normalize(blended[:, 12:], dim=-1), quats)


class _BoneMotions(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor):
        centers, _, quats = inputs = _plain(inputs)
        motions = torch.empty(len(centers), 16)
        _kernel("bone_motions")(len(centers), *map(pointer, (*inputs, motions)))
        ctx.save_for_backward(centers, quats)
        return motions

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        centers, quats = ctx.saved_tensors
        d_translations, d_quats = torch.empty_like(centers), torch.empty_like(quats)
        tensors = centers, quats, *_plain(gradients), d_translations, d_quats
        _kernel("bone_motions_gradient")(len(centers), *map(pointer, tensors))
        return None, d_translations, d_quats


class _NeighborGap(torch.autograd.Function):
    """Mean gap whose gradient is computed in the forward pass, from shared intermediates."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor):
        centers, translations, quats, neighbors = _plain(inputs)
        d_translations, d_quats = torch.empty_like(translations), torch.empty_like(quats)
        tensors = neighbors, centers, translations, quats, d_translations, d_quats
        mean = _kernel("bone_gaps", ctypes.c_float)(
            *neighbors.shape, ctypes.c_float(GAP_SOFTNESS), *map(pointer, tensors)
        )
        ctx.save_for_backward(d_translations, d_quats)
        return translations.new_tensor(mean)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        d_translations, d_quats = ctx.saved_tensors
        return None, gradients[0] * d_translations, gradients[0] * d_quats, None


class _BlendBones(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor):
        logits, _, means, quats = inputs = _plain(inputs)
        results = torch.empty_like(means), torch.empty_like(quats)
        _kernel("blend_bones")(*logits.shape, *map(pointer, (*inputs, *results)))
        ctx.save_for_backward(*inputs)
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        inputs = ctx.saved_tensors
        results = tuple(torch.empty_like(tensor) for tensor in inputs)
        tensors = *inputs, *_plain(gradients), *results
        _kernel("blend_bones_gradient")(*inputs[0].shape, *map(pointer, tensors))
        return results


def _kernel(name: str, result: Any = None) -> Callable[..., Any]:
    return kernels().function(name, result)


def _plain(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.detach().contiguous() for tensor in tensors)
