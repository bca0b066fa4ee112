"""Adam (Kingma and Ba 2015) for a fit: PyTorch's, with one call of a CPU kernel for all tensors.

A fit has a parameter group for each frame, few of which have gradients in a step; PyTorch spends
more time on the groups than on the numbers. The state is that of `torch.optim.Adam`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from recon.native.library import built, kernels


class Adam(torch.optim.Adam):
    """`torch.optim.Adam` without weight decay; compiled on the CPU if the kernels were built.

    Args:
        groups: parameter groups with their learning rates `lr`.
        eps: added to the denominator.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], eps: float = 1e-15):
        super().__init__(list(groups), eps=eps, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update all parameters that have a gradient."""
        assert closure is None, "the loss is computed once"
        updated = [
            (parameter, parameter.grad, group["lr"])
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        tensors = [tensor for parameter, gradient, _ in updated for tensor in (parameter, gradient)]
        if built() and all(_has_kernel(tensor) for tensor in tensors):
            self._step_cpu(updated)
        else:
            super().step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients; PyTorch's function spends more time on looking at each."""
        assert set_to_none, "a gradient of zeros would be a step of its own"
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def _step_cpu(self, updated: Sequence[tuple[Tensor, Tensor, float]]) -> None:
        states = [self.state[parameter] for parameter, _, _ in updated]
        for (parameter, _, _), state in zip(updated, states, strict=True):
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["step"] += 1
        count = len(updated)
        gradients = [gradient.contiguous() for _, gradient, _ in updated]
        moments = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        (b1, b2), eps = self.defaults["betas"], self.defaults["eps"]
        kernels().function("adam")(
            count,
            (ctypes.c_int64 * count)(*(gradient.numel() for gradient in gradients)),
            _pointers([parameter for parameter, _, _ in updated]),
            _pointers(gradients),
            *map(_pointers, moments),
            (ctypes.c_double * count)(*(rate for _, _, rate in updated)),
            (ctypes.c_double * count)(*(float(state["step"]) for state in states)),
            *map(ctypes.c_double, (b1, b2, eps)),
        )


def _has_kernel(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


def _pointers(tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    assert all(tensor.is_contiguous() for tensor in tensors)
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
