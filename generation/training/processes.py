"""Distributed training through accelerate, and tensors that are sharded over processes.

A training runs on a single process, or on several that `torchrun` or `accelerate launch` starts.
Each has a copy of the network (DDP) or a shard of it (FSDP version 2, which keeps parameter names).
Copies exchange their gradients in each step, or their weights every few steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from generation.training.config import EngineConfig
from generation.training.samples import AnySamples
from recon.errors import BackendError, InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

_MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16"}


@contextmanager
def started_processes(config: EngineConfig) -> Iterator[Accelerator]:
    """Connect to the other processes of the training, if any, while the block runs.

    Raises:
        BackendError: accelerate is not installed.
        InputError: the processes were launched in an unsupported way.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise BackendError("training needs accelerate; run `pip install accelerate`") from error
    AcceleratorState._reset_state()  # an earlier training may have used another precision
    accelerator = Accelerator(
        cpu=config.device == "cpu",
        mixed_precision=_MIXED_PRECISION[config.precision],
        gradient_accumulation_steps=config.grad_accum_steps,
    )
    check_distribution(accelerator, config.average_every)
    try:
        with warnings.catch_warnings():
            # DDP warns about weights of 1 × 1 convolutions, whose strides are ambiguous.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            yield accelerator
    finally:
        if accelerator.num_processes > 1:
            accelerator.end_training()


def check_distribution(accelerator: Accelerator, average_every: int = 0) -> None:
    """Raise InputError if processes were launched in an unsupported way."""
    kind = accelerator.distributed_type.value
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if kind not in ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP"):
        raise InputError(f"expected a launch with DDP or FSDP, found {kind}")
    if kind == "FSDP" and getattr(plugin, "fsdp_version", 1) != 2:
        raise InputError("expected FSDP version 2; launch with --fsdp_version 2")
    if kind == "FSDP" and average_every:
        raise InputError(
            f"expected average_every = 0 for FSDP, whose processes hold no copies of the network, "
            f"found {average_every}; launch with DDP"
        )


def on_device(samples: AnySamples, device: torch.device) -> AnySamples:
    """Move the tensors of samples to a device."""
    from accelerate.utils import send_to_device

    return cast("AnySamples", send_to_device(samples, device, non_blocking=True))


@torch.no_grad()
def average(tensors: Iterable[Tensor], accelerator: Accelerator) -> None:
    """Replace tensors by their means over all processes, in one communication."""
    tensors = list(tensors)
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    mean = cast("Tensor", accelerator.reduce(flat, "mean"))
    for tensor, part in zip(tensors, mean.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def gather(tensor: Tensor) -> Tensor:
    """Return the complete tensor of a shard; must be called on every process."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def fill(tensor: Tensor, values: Tensor) -> None:
    """Copy a complete tensor into a tensor that may be sharded; the inverse of `gather`."""
    tensor.copy_(distribute_like(values, tensor))


def distribute_like(values: Tensor, like: Tensor) -> Tensor:
    """Shard a complete tensor like another one of its shape, with its device and memory format."""
    if isinstance(like, DTensor):
        return distribute_tensor(values.to(like.device), like.device_mesh, like.placements)
    return torch.empty_like(like, dtype=values.dtype).copy_(values)
