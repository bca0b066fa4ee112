"""Adam (Kingma and Ba 2015) for a fit: one call of a CPU kernel for all tensors, or plain PyTorch.

A fit has a parameter group for each frame, few of which have gradients in a step; `torch.optim`
spends more time on the groups than on the numbers, and seconds on importing its compiler.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recon.native.library import kernels
from recon.native.tensors import have_kernel

BETAS = 0.9, 0.999
EPS = 1e-15


class _Update(NamedTuple):
    """One tensor of a step.

    Attributes:
        value: the parameter.
        gradient: its gradient, contiguous.
        rate: its learning rate.
        state: its moments and the number of its steps.
    """

    value: Tensor
    gradient: Tensor
    rate: float
    state: dict[str, Tensor]


class Adam:
    """Adam without weight decay.

    Args:
        groups: dictionaries with the keys `params`, tensors, and `lr`, their learning rate.

    Attributes:
        param_groups: the groups; learning rates may be changed.
        state: by parameter its moments `exp_avg` and `exp_avg_sq`, and `step`, the number of its
            steps, as in `torch.optim.Adam`; empty before the first one.
    """

    def __init__(self, groups: Sequence[dict[str, Any]]):
        self.param_groups = list(groups)
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def groups_with_gradients(self) -> list[dict[str, Any]]:
        """Return the groups of which a step changes a tensor."""
        return [
            group
            for group in self.param_groups
            if any(parameter.grad is not None for parameter in group["params"])
        ]

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient."""
        updates = [
            _Update(parameter, parameter.grad.contiguous(), group["lr"], self._state_of(parameter))
            for group in self.groups_with_gradients()
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        for update in updates:
            update.state["step"] += 1
        if all(have_kernel(update.value, update.gradient) for update in updates):
            _step_cpu(updates)
        else:
            _step_reference(updates)

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state.setdefault(parameter, {})
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


def _step_reference(updates: Sequence[_Update]) -> None:
    """Take a step in plain PyTorch."""
    b1, b2 = BETAS
    for value, gradient, rate, state in updates:
        steps, mean, square = float(state["step"]), state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(gradient, 1 - b1)
        square.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        spread = (square / (1 - b2**steps)).sqrt_().add_(EPS)
        value.addcdiv_(mean, spread, value=-rate / (1 - b1**steps))


def _step_cpu(updates: Sequence[_Update]) -> None:
    """Take a step with the compiled kernel."""
    count = len(updates)
    states = [update.state for update in updates]
    kernels().function("adam")(
        count,
        (ctypes.c_int64 * count)(*(update.gradient.numel() for update in updates)),
        _pointers([update.value for update in updates]),
        _pointers([update.gradient for update in updates]),
        _pointers([state["exp_avg"] for state in states]),
        _pointers([state["exp_avg_sq"] for state in states]),
        (ctypes.c_double * count)(*(update.rate for update in updates)),
        (ctypes.c_double * count)(*(float(state["step"]) for state in states)),
        *map(ctypes.c_double, (*BETAS, EPS)),
    )


def _pointers(tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    assert all(tensor.is_contiguous() for tensor in tensors)
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
