"""What a piece of code allocates and computes, observed while it runs, even on "meta" tensors.

Tensors on the meta device have shapes and no numbers: a network of any size runs through in a
second and takes no memory, and what is observed is the same as on an accelerator. Attention counts
as one operation without a matrix of S × S, which the fused kernels never make.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

ATTENTION = torch.ops.aten.scaled_dot_product_attention


class PeakMemory(TorchDispatchMode):
    """Follows the memory of all tensors that come to be while it is active.

    What operations need inside and give back before they end is not seen.

    Args:
        device: type of the device whose tensors count.

    Attributes:
        live: bytes of tensors that are alive.
        peak: the most there were.
    """

    def __init__(self, device: str):
        super().__init__()
        self.device = device
        self.live = self.peak = 0
        self._seen: dict[int, weakref.ref[UntypedStorage]] = {}
        self._again: dict[Hashable, Callable[[], Tensor]] = {}

    def __torch_dispatch__(
        self,
        func: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = self._run(func, args, kwargs or {})
        for tensor in [result] if isinstance(result, Tensor) else tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.device.type == self.device:
                storage = tensor.untyped_storage()
                if id(storage) not in self._seen and not _is_of(storage, args):
                    self._see(storage)
        return result

    def _run(self, func: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """On meta, shapes that were worked out once are not worked out again, which is slow."""
        if self.device != "meta" or kwargs:
            return func(*args, **kwargs)
        key = (func, _form(args))
        if key in self._again:
            return self._again[key]()
        result = func(*args)
        if isinstance(result, Tensor) and not _is_of(result.untyped_storage(), args):
            self._again[key] = partial(
                torch.empty_strided,
                result.shape,
                result.stride(),
                dtype=result.dtype,
                device=result.device,
            )
        return result

    def _see(self, storage: UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        self._seen[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self.live += size
        self.peak = max(self.peak, self.live)

    def _forget(self, key: int, size: int) -> None:
        del self._seen[key]
        self.live -= size


def peak_bytes(run: Callable[[], Any], device: str = "meta") -> int:
    """The most memory that tensors made by a function take at one time, its result included."""
    with PeakMemory(device) as memory:
        result = run()
    del result
    return memory.peak


def count_flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of the products, convolutions and attentions of a function."""
    # An operation is looked up, before it is taken apart, by its overload, and then by its name.
    mapping = {ATTENTION: _attention_flops, ATTENTION.default: _attention_flops}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    return counter.get_total_flops()


def _is_of(storage: UntypedStorage, args: Sequence[Any]) -> bool:
    """Whether memory is that of an argument, so that nothing new was made."""
    return any(
        isinstance(leaf, Tensor) and leaf.untyped_storage() is storage for leaf in tree_leaves(args)
    )


def _form(value: Any) -> Hashable:
    """Of arguments: what their results' shapes depend on."""
    if isinstance(value, Tensor):
        return value.device.type, value.dtype, value.shape, value.stride()
    if isinstance(value, (list, tuple)):
        return tuple(map(_form, value))
    return type(value), value


def _attention_flops(
    q: Sequence[int], k: Sequence[int], v: Sequence[int], *others: Any, **named: Any
) -> int:
    """Of q kᵀ and of its product with v, from shapes [..., S, d]."""
    sequences = torch.Size(q[:-1]).numel()
    return 2 * sequences * k[-2] * (q[-1] + v[-1])
