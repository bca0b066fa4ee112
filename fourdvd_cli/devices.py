"""What `--device` means on this machine."""

from __future__ import annotations

import importlib.util
import os

from fourdvd_cli.console import say
from recon.errors import BackendError

NO_GSPLAT = "gsplat is not installed; run `pip install 'fourdvd[cuda]'`"


def resolve_device(name: str) -> str:
    """The device on which a command draws Gaussians.

    Args:
        name: "cpu", "cuda", or "auto": CUDA where there is a device and gsplat to draw on it.

    Returns:
        "cpu" or "cuda".

    Raises:
        BackendError: "cuda" was asked for and cannot be used.
    """
    device = resolve_network_device(name)
    if device == "cuda" and importlib.util.find_spec("gsplat") is None:
        if name == "cuda":
            raise BackendError(f"{NO_GSPLAT}, or use --device cpu")
        say(f"working on the CPU although there is a CUDA device: {NO_GSPLAT}")
        return "cpu"
    return device


def resolve_network_device(name: str) -> str:
    """The device on which a command runs networks; as `resolve_device`, but without gsplat."""
    if name == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise BackendError(_no_cuda(torch.__version__, torch.version.cuda))
    return "cpu"


def _no_cuda(torch_version: str, cuda_version: str | None) -> str:
    if cuda_version is None:
        return (
            f"--device cuda needs a CUDA build of torch, found {torch_version}; "
            "install one as pytorch.org says, or use --device cpu"
        )
    return (
        "--device cuda needs an NVIDIA GPU and its driver, found none that torch can use; "
        "see what `nvidia-smi` says, or use --device cpu"
    )


def usable_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
