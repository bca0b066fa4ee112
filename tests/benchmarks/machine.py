"""On what a benchmark runs: processor, versions, instruction sets, threads, other load.

Importing it notes the load of the machine before the benchmark adds its own.
"""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import torch

from fourdvd_cli import __version__
from recon.native.build import variants
from recon.native.library import kernels
from recon.rasterizers import cpu

CORES = os.cpu_count() or 1
LOAD_BEFORE = os.getloadavg()[0]  # mean number of running threads in the last minute

_pools: dict[str, list[int]] = {}


def describe(device: str = "cpu") -> str:
    """One line of date, machine and versions; it warns where other programs took part."""
    parts = [
        datetime.date.today().isoformat(),
        f"{processor()}, {CORES} cores, {kernels().variant}",
        *([torch.cuda.get_device_name()] if device == "cuda" else []),
        f"Python {platform.python_version()}, torch {torch.__version__}, fourdvd {__version__}",
    ]
    line = " · ".join(parts)
    if LOAD_BEFORE > 0.3 * CORES:
        line += f" · **other programs were running (load {LOAD_BEFORE:.1f}): times are too long**"
    return line


def processor() -> str:
    """The processor's name."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Those that the kernels were compiled for and this processor runs, the simplest first."""
    names = list(variants())
    return names[: names.index(kernels().variant) + 1]


def use_instruction_set(name: str) -> None:
    """Lets the kernels run with it from now on, as the variable FOURDVD_ISA does from the start."""
    library = kernels()
    _pools[library.variant] = cpu._Workspace._free
    library.variant = name
    cpu._Workspace._free = _pools.get(name, [])  # a workspace belongs to its instruction set


def use_threads(threads: int) -> None:
    """As `fourdvd reconstruct` does: the kernels get the threads (0: all), PyTorch one."""
    kernels().set_threads(threads)
    torch.set_num_threads(1)
