"""PyTorch tensors as arguments of the compiled kernels."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from recon.native.library import built


def have_kernel(*tensors: Tensor) -> bool:
    """Return whether kernels were compiled and can compute with these: float32 on the CPU."""
    return built() and all(
        tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors
    )


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    """Return the address of a contiguous tensor on the CPU."""
    return ctypes.c_void_p(tensor.data_ptr())
