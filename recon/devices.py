"""Selection of the device, and the numbers of usable CPU cores and threads."""

from __future__ import annotations

import importlib.util
import logging
import os

from recon.errors import BackendError, InputError

NO_GSPLAT = "gsplat is not installed; run `pip install 'fourdvd[cuda]'`"

_log = logging.getLogger(__name__)


def resolve_device(name: str = "auto") -> str:
    """Select the device for rendering and fitting Gaussians; CUDA requires gsplat.

    Args:
        name: "cpu", "cuda" or "auto". With a CUDA device but without gsplat, "auto" selects the CPU
            and logs a warning.

    Returns:
        "cpu" or "cuda".

    Raises:
        BackendError: "cuda" was requested and cannot be used.
        InputError: `name` is none of these.
    """
    device = resolve_network_device(name)
    if device == "cuda" and importlib.util.find_spec("gsplat") is None:
        if name == "cuda":
            raise BackendError(f"{NO_GSPLAT}, or use the device cpu")
        _log.warning("a CUDA device is available, but the CPU is used: %s", NO_GSPLAT)
        return "cpu"
    return device


def resolve_network_device(name: str = "auto") -> str:
    """Select the device for networks; like `resolve_device`, but CUDA does not require gsplat."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"expected the device auto, cpu or cuda, found {name!r}")
    if name == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "auto":
        return "cpu"
    if torch.version.cuda is None:
        raise BackendError(
            f"CUDA needs a CUDA build of torch, found {torch.__version__}; install one from "
            "pytorch.org, or use the device cpu"
        )
    raise BackendError(
        "CUDA needs an NVIDIA GPU and its driver, but torch finds none; check `nvidia-smi`, or use "
        "the device cpu"
    )


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_threads() -> int:
    """Return the number of threads to compute with: one per usable core, or `OMP_NUM_THREADS`.

    That variable also limits torch and numpy; process pools and Ray set it in their workers.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    cores = usable_cores()
    return min(cores, int(limit)) if limit.isdecimal() and int(limit) > 0 else cores
