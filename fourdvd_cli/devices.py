"""What `--device` means on this machine."""

from __future__ import annotations

import importlib.util

from fourdvd_cli.console import say
from recon.errors import BackendError


def resolve_device(name: str) -> str:
    """The device on which a command works.

    Args:
        name: "cpu", "cuda", or "auto": CUDA where there is a device and gsplat to draw on it.

    Returns:
        "cpu" or "cuda".

    Raises:
        BackendError: "cuda" was asked for and cannot be used.
    """
    if name == "cpu":
        return "cpu"
    missing = _missing_for_cuda()
    if missing is None:
        return "cuda"
    if name == "cuda":
        raise BackendError(f"--device cuda needs {missing}; or use --device cpu")
    say(f"working on the CPU (CUDA would need {missing})")
    return "cpu"


def _missing_for_cuda() -> str | None:
    import torch

    if torch.version.cuda is None:
        return (
            f"a CUDA build of torch, found {torch.__version__}; reinstall torch as pytorch.org says"
        )
    if not torch.cuda.is_available():
        return "an NVIDIA GPU and its driver, found none that torch can use (see `nvidia-smi`)"
    if importlib.util.find_spec("gsplat") is None:
        return "gsplat, which is not installed; run `pip install 'fourdvd[cuda]'`"
    return None
