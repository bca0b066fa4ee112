"""Checks of `fourdvd doctor`: what this machine supports.

Each check returns a finding in one line and, if something is missing, advice on what to install.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import fourdvd_cli
from recon.devices import usable_cores


class Finding(NamedTuple):
    """Result of one check.

    Attributes:
        ok: whether the component is installed and usable.
        found: version, location or other facts about it, in one line.
        advice: how to install it if it is missing; else None.
    """

    ok: bool
    found: str
    advice: str | None = None

    def line(self, name: str) -> str:
        """Return the finding as a line of text."""
        advice = f" → {self.advice}" if self.advice else ""
        return f"{'✓' if self.ok else '–'} {name:14}{self.found}{advice}"


def diagnose(folder: Path) -> dict[str, Finding]:
    """Run all checks.

    Args:
        folder: the folder whose free disk space is reported.

    Returns:
        Findings by the name of their check, in the order in which they are shown.
    """
    checks: dict[str, Callable[[], Finding]] = {
        "fourdvd": lambda: Finding(True, fourdvd_cli.__version__),
        "python": lambda: Finding(True, f"{platform.python_version()} on {platform.platform()}"),
        "processor": _processor,
        "torch": _torch,
        "cuda": _cuda,
        "cuda_toolkit": _cuda_toolkit,
        "gsplat": _gsplat,
        "cpu_kernel": _cpu_kernel,
        "h264": _h264,
        "lift": _lift,
        "weights": _weights,
        "data": _data,
        "disk": lambda: _disk(folder),
    }
    return {name: check() for name, check in checks.items()}


def _processor() -> Finding:
    return Finding(True, f"{platform.machine()}, {usable_cores()} cores usable")


def _torch() -> Finding:
    import torch

    return Finding(True, f"{torch.__version__}, {torch.get_num_threads()} threads")


def _cuda() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding(False, "no device", "optional: everything also runs on the CPU, but slower")
    device = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    return Finding(True, f"{device.name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")


def _cuda_toolkit() -> Finding:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = shutil.which("nvcc", path=None if home is None else str(Path(home) / "bin"))
    if nvcc:
        return Finding(True, nvcc)
    return Finding(False, "no nvcc", "needed only without a prebuilt gsplat wheel: set CUDA_HOME")


def _gsplat() -> Finding:
    if importlib.util.find_spec("gsplat") is None:
        return Finding(False, "not installed", "on a CUDA machine: pip install 'fourdvd[cuda]'")
    return Finding(True, importlib.metadata.version("gsplat"))


def _cpu_kernel() -> Finding:
    from recon.errors import BackendError
    from recon.native.library import kernels

    try:
        return Finding(True, f"built, instruction set in use: {kernels().variant}")
    except BackendError as error:  # the message contains the advice
        return Finding(
            False,
            "not usable; the PyTorch reference is used instead, a hundred times slower",
            f"{error}",
        )


def _h264() -> Finding:
    import av

    codecs = [name for name in ("libx264", "libopenh264") if name in av.codecs_available]
    if codecs:
        return Finding(True, f"PyAV {av.__version__} with {', '.join(codecs)}")
    return Finding(
        False, f"PyAV {av.__version__} without H.264", "pip install --force-reinstall av"
    )


def _lift() -> Finding:
    from generation.weights.store import find_lift
    from recon.errors import WeightsError

    try:
        return Finding(True, f"{find_lift()}")
    except WeightsError as error:
        return Finding(False, "no weights", error.hint)


def _weights() -> Finding:
    from generation.weights.catalogue import published
    from generation.weights.store import find_published
    from recon.errors import WeightsError

    found, missing = [], []
    for model in published.values():
        try:
            found.append(f"{model.label} in {find_published(model).parent}")
        except WeightsError:
            missing.append(model.label)
    facts = [*found, *([f"not found: {', '.join(missing)}"] if missing else [])]
    advice = (
        None
        if found
        else "all models but lift and mini need them: fourdvd models fetch sv4d2 --accept-license"
    )
    return Finding(bool(found), "; ".join(facts), advice)


def _data() -> Finding:
    from generation.curation.render.blender_process import find_blender
    from recon.errors import BackendError

    try:
        parts, missing = [f"Blender: {find_blender()}"], []
    except BackendError:
        parts, missing = [], ["Blender"]
    for module, extra in (("cv2", "data"), ("ray", "cluster")):
        there = importlib.util.find_spec(module) is not None
        (parts if there else missing).append(module if there else f"{module} [{extra}]")
    facts = [*parts, *([f"not found: {', '.join(missing)}"] if missing else [])]
    advice = "needed for fourdvd data: pip install 'fourdvd[data,cluster]'" if missing else None
    return Finding(not missing, "; ".join(facts), advice)


def _disk(folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    return Finding(True, f"{usage.free / 2**30:.1f} GiB free at {folder}")
