"""The processes that train together, through accelerate, and tensors that are spread over them.

One process by itself; several when `torchrun` or `accelerate launch` has started them: with a copy
of the network in each (DDP), or with shards of it (FSDP of PyTorch's second form, whose parameters
keep their names). What it does not know: what is trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from generation.training.dataset import TrainingSample
from generation.training.settings import EngineSettings
from recon.errors import BackendError, InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

_MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16"}


@contextmanager
def started_processes(settings: EngineSettings) -> Iterator[Accelerator]:
    """Is together with the other processes, if there are any, while the block runs.

    Raises:
        BackendError: accelerate is not installed.
        InputError: the processes were told to share the network in a way that is not supported.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise BackendError(
            "training needs accelerate; run `pip install 'fourdvd[train]'`"
        ) from error
    AcceleratorState._reset_state()  # a training before this one may have had another precision
    accelerator = Accelerator(
        cpu=settings.device == "cpu",
        mixed_precision=_MIXED_PRECISION[settings.precision],
        gradient_accumulation_steps=settings.accumulate,
    )
    check_sharing(accelerator)
    try:
        with warnings.catch_warnings():
            # Weights of 1 × 1 convolutions lie in memory in two ways that are the same.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            yield accelerator
    finally:
        if accelerator.num_processes > 1:
            accelerator.end_training()


def on_device(samples: TrainingSample, device: torch.device) -> TrainingSample:
    """Samples with their tensors on another device."""
    from accelerate.utils import send_to_device

    return cast("TrainingSample", send_to_device(samples, device, non_blocking=True))


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, of which this process may have a shard; to be called on every process."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def fill(tensor: Tensor, numbers: Tensor) -> None:
    """Puts the numbers of a whole tensor into one that may be a shard; the inverse of `whole`."""
    tensor.copy_(shared_like(numbers, tensor))


def shared_like(numbers: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, spread over the processes and placed as another one of its shape."""
    numbers = numbers.to(like.device)
    if isinstance(like, DTensor):
        return distribute_tensor(numbers, like.device_mesh, like.placements)
    return numbers


def check_sharing(accelerator: Accelerator) -> None:
    """Raises InputError if processes were launched in a way that training does not support."""
    kind = accelerator.distributed_type.value
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if kind not in ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP"):
        raise InputError(f"training is not supported with {kind}; launch it with DDP or FSDP")
    if kind == "FSDP" and getattr(plugin, "fsdp_version", 1) != 2:
        raise InputError("training needs the second form of FSDP; launch with --fsdp_version 2")
