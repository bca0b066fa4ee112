"""How every benchmark measures and reports: the machine, times taken in turns, tables in the docs.

Importing this module notes how busy the machine is before the benchmark adds its own work.
`publish` replaces what stands in `docs/benchmarks.md` between

    <!-- bench:NAME -->
    <!-- /bench:NAME -->
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from fourdvd_cli import __version__
from recon.native.build import variants
from recon.native.library import kernels
from recon.rasterizers import cpu

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
CORES = os.cpu_count() or 1
BUSY_SHARE = 0.1  # of the cores; a machine on which other programs use more is not quiet
LOOKED_S = 1.0  # how long the machine is watched before a benchmark

Sample = TypeVar("Sample")

_workspaces: dict[str, list[int]] = {}


# -- the machine


def describe_machine(device: str = "cpu") -> str:
    """One line with the date, machine and versions; it warns where other programs were running."""
    parts = [
        datetime.date.today().isoformat(),
        f"{_processor()}, {CORES} cores, {kernels().variant}",
        *([torch.cuda.get_device_name()] if device == "cuda" else []),
        f"Python {platform.python_version()}, torch {torch.__version__}, fourdvd {__version__}",
    ]
    line = " · ".join(parts)
    if BUSY_BEFORE > BUSY_SHARE * CORES:
        busy = f"{BUSY_BEFORE:.1f} of {CORES} cores"
        line += f" · **other programs were running (on {busy}): times are too long**"
    return line


def busy_cores(seconds: float) -> float:
    """Return how many cores were busy on average, watched for some seconds."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return os.getloadavg()[0]

    def idle() -> float:
        """Seconds that all cores together have been idle or have waited for a disk."""
        columns = stat.read_text(encoding="utf-8").split("\n", 1)[0].split()
        return (int(columns[4]) + int(columns[5])) / os.sysconf("SC_CLK_TCK")

    before, began = idle(), time.monotonic()
    time.sleep(seconds)
    return max(0.0, CORES - (idle() - before) / (time.monotonic() - began))


BUSY_BEFORE = busy_cores(LOOKED_S)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Instruction sets that the kernels were built for and this processor has, fastest last."""
    names = list(variants())
    return names[: names.index(kernels().variant) + 1]


def use_instruction_set(name: str) -> None:
    """Switch the kernels to an instruction set, as FOURDVD_ISA does at the start."""
    library = kernels()
    _workspaces[library.variant] = cpu._Workspace._free
    library.variant = name
    cpu._Workspace._free = _workspaces.get(name, [])  # a workspace belongs to its instruction set


def use_threads(threads: int) -> None:
    """Give the kernels this many threads (0: all) and PyTorch one, as `reconstruct` does."""
    kernels().set_threads(threads)
    torch.set_num_threads(1)


# -- times


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one thing.

    Attributes:
        samples: milliseconds, at least one.
    """

    samples: tuple[float, ...]

    @property
    def minimum(self) -> float:
        return min(self.samples)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def __str__(self) -> str:
        return f"{three_digits(self.minimum)} ({three_digits(self.median)})"


def timing(samples: Iterable[float]) -> Timing:
    """Collect measurements in milliseconds."""
    return Timing(tuple(samples))


def three_digits(value: float) -> str:
    """Format a number with three significant digits, more if its integer part has more."""
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def in_turns(cases: Mapping[str, Callable[[], Sample]], repeats: int) -> dict[str, list[Sample]]:
    """Call every case once in each of `repeats` rounds, so that noise affects all cases alike."""
    results: dict[str, list[Sample]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, run in cases.items():
            results[name].append(run())
    return results


# -- memory


@contextmanager
def peak_memory() -> Iterator[dict[str, int]]:
    """Watch the memory of this process in the block, on Linux.

    Yields:
        Peaks so far in bytes: "VmHWM", the RSS, and "RssAnon", the RSS without files.
    """
    peak: dict[str, int] = {"VmHWM": 0, "RssAnon": 0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            status = Path("/proc/self/status").read_text()
            for name in peak:
                found = re.search(rf"{name}:\s+(\d+) kB", status)
                peak[name] = max(peak[name], 1024 * int(found[1]) if found else 0)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


# -- tables


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table; columns after the first are aligned to the right."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def replace_section(text: str, name: str, body: str) -> str | None:
    """Replace what stands between the marks of a section; None if the marks are missing."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        return None
    return f"{before}{begin}\n{body}\n{end}{after}"


def publish(name: str, body: str, page: Path | None) -> None:
    """Print a section and, if a page is given, write it there."""
    print(f"\n{body}\n", flush=True)
    if page is None:
        return
    text = replace_section(page.read_text(encoding="utf-8"), name, body)
    if text is None:
        print(f"{page} has no <!-- bench:{name} --> … <!-- /bench:{name} -->: not written",
              file=sys.stderr)  # fmt: skip
        return
    page.write_text(text, encoding="utf-8")
    print(f"written to {page}, section {name}", file=sys.stderr)


def add_options(parser: argparse.ArgumentParser, section: str) -> None:
    """Add `--section NAME` and `--page FILE` / `--no-page`, the arguments of `publish`."""
    parser.add_argument("--section", default=section, help="of the page (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the section is replaced")
    parser.add_argument("--no-page", dest="page", action="store_const", const=None,
                        help="print only")  # fmt: skip
