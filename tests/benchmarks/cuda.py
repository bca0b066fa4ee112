"""Measure everything that needs a CUDA device, in order of worth, within some minutes.

    python -m tests.benchmarks.cuda [--minutes 10] [-o out/cuda] [--grid GRID] [--parts NAME …]
    python -m tests.benchmarks.cuda --rehearse

Each part runs in its own process and in bounded time, so a crash, a lack of memory or a missing
package ends only that part. OUT/cuda.json and OUT/cuda.md are written after each part, OUT/NAME.log
has what the part printed. A rehearsal runs the same code at tiny sizes on a CPU. The parts are in
`tests.benchmarks.cuda_measurements`.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from fourdvd_cli import __version__
from recon.output import output_file, write_json
from tests.benchmarks import harness
from tests.benchmarks.cuda_measurements import PARTS, ROOT, Number
from tests.conftest import SHARED

FORMAT = "fourdvd-cuda-benchmark"
REFERENCE_GRID = SHARED / "data" / "grids" / "gdbot"  # 16 views × 21 frames at 576²
SECONDS = {
    "gsplat": 240.0, "tests": 180.0, "fit": 180.0, "unet": 120.0, "cascade": 180.0,
    "train-lift": 90.0, "largest-window": 120.0, "fit-on-cpu": 600.0,
}  # fmt: skip
"""Limit of each part; kernels may have to be compiled."""
LEAST_SECONDS = 5.0  # no part is started with less
PACKAGES = ("torch", "gsplat", "numpy", "diffusers", "transformers", "accelerate")
QUERY = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm")


@dataclass
class Part:
    """Result of a part; `status` is "waiting", "running", "done", "failed" or "not run".

    Attributes:
        name: key of `PARTS`.
        status: what became of it.
        seconds: how long it ran.
        reason: why it failed or did not run.
        numbers: what it measured, also if it failed later.
    """

    name: str
    status: str = "waiting"
    seconds: float = 0.0
    reason: str | None = None
    numbers: list[Number] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    options.output = options.output.absolute()
    options.output.mkdir(parents=True, exist_ok=True)
    parts = [Part(name) for name in PARTS if name in options.parts]
    head = {"format": FORMAT, "version": 1, "rehearsal": options.rehearse, "machine": machine()}
    deadline = time.monotonic() + 60 * options.minutes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, so the part is ended, too
    for part in parts:
        part.status = "running"
        write(options.output, head, parts)
        measure(part, options, deadline - time.monotonic())
        write(options.output, head, parts)
        state = f"{part.name}: {part.status} after {part.seconds:.0f} s"
        print(state, part.reason or "", file=sys.stderr, flush=True)
    harness.publish(options.section, text(head["machine"], parts), options.page)
    return 0 if all(part.status == "done" for part in parts) else 1


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cuda")
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, help="for all parts (default: %(default)g)")
    add("-o", "--output", type=Path, default=Path("out/cuda"), help="default: %(default)s")
    add("--grid", type=Path, default=REFERENCE_GRID if REFERENCE_GRID.is_dir() else None,
        help="grid with held-out views to fit (default: gdbot of the reference data, else a "
        "procedurally generated character)")  # fmt: skip
    add("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="default: all")
    add("--rehearse", action="store_true", help="tiny sizes on a CPU")
    harness.add_options(parser, "cuda")
    parser.set_defaults(page=None)
    options = parser.parse_args(arguments)
    if options.grid is not None:
        options.grid = options.grid.absolute()
    if options.rehearse:
        options.grid = None
    elif not torch.cuda.is_available():
        parser.error("torch finds no CUDA device; --rehearse runs the same code on a CPU")
    return options


# -- one part


def measure(part: Part, options: argparse.Namespace, seconds_left: float) -> None:
    """Run a part in its own process, for at most its limit."""
    found = options.output / f"{part.name}.jsonl"
    device = "cpu" if options.rehearse else "cuda"
    command = [
        sys.executable, "-m", "tests.benchmarks.cuda_measurements",
        part.name, str(found), device, str(options.output), str(options.grid or ""),
    ]  # fmt: skip
    run(part, command, found, min(SECONDS[part.name], seconds_left))


def run(part: Part, command: Sequence[str], found: Path, limit_s: float) -> None:
    """Run the command of a part, which writes its numbers to the file `found`."""
    if limit_s < LEAST_SECONDS:
        part.status, part.reason = "not run", "no time was left"
        return
    found.unlink(missing_ok=True)
    log = found.with_suffix(".log")
    began = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True
        )
        try:
            code = process.wait(limit_s)
            part.status, part.reason = ("failed", why(code, log)) if code else ("done", None)
        except subprocess.TimeoutExpired:
            part.status, part.reason = "failed", f"stopped after {limit_s:.0f} s"
        finally:
            kill(process)
            part.seconds = round(time.monotonic() - began, 1)
    part.numbers = read_numbers(found)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and those that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def why(code: int, log: Path) -> str:
    """Explain the exit status of a part."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}; see {log}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), f"exit status {code}")


def read_numbers(path: Path) -> list[Number]:
    """Read what a part recorded; the last line may be truncated."""
    numbers: dict[str, Number] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            number = Number(**json.loads(line))
        except ValueError:
            break
        numbers[number.what] = number
    return list(numbers.values())


# -- the report


def machine() -> dict[str, Any]:
    """Describe the card, the driver, the packages and the date, without opening the device."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **card(),
        "cuda": torch.version.cuda,
        "processor": harness._processor(),
        "cores": harness.CORES,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "fourdvd": __version__,
        "commit": output_of("git", "-C", str(ROOT), "rev-parse", "HEAD"),
    }


def card() -> dict[str, str | None]:
    query = ",".join(QUERY)
    found = output_of("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", "--id=0")
    values = [None] * len(QUERY) if found is None else found.split(", ")
    return dict(zip(("card", *QUERY[1:]), values, strict=False))


def output_of(*command: str) -> str | None:
    """What a program prints; None if it is missing or fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write(folder: Path, head: dict[str, Any], parts: Sequence[Part]) -> None:
    """Write the numbers so far as JSON and as a table."""
    rows = [
        asdict(part) | {"numbers": [asdict(n) | {"met": n.met} for n in part.numbers]}
        for part in parts
    ]
    write_json(folder / "cuda.json", head | {"parts": rows})
    with output_file(folder / "cuda.md", overwrite=True) as partial:
        partial.write_text(text(head["machine"], parts) + "\n", encoding="utf-8")


def text(machine: dict[str, Any], parts: Sequence[Part]) -> str:
    """Format the table of all parts, and the machine."""
    rows = []
    for part in parts:
        if part.status != "done":
            state = f"{part.status}, {part.seconds:.0f} s" if part.seconds else part.status
            rows.append([f"**{part.name}**", state, "", escaped(part.reason or "")])
        for number in part.numbers:
            rows.append([f"{part.name}: {escaped(number.what)}", *cells(number)])
    known = [f"{name} {value}" for name, value in machine.items() if value is not None]
    header = ["part", "measured", "target", "met"]
    return f"{harness.table(header, rows)}\n\n{' · '.join(known)}"


def cells(number: Number) -> list[str]:
    """Value, target and whether it is met."""
    unit = f" {number.unit}" if number.unit else ""
    target = ""
    if number.at_most is not None:
        target = f"≤ {number.at_most:g}{unit}"
    elif number.at_least is not None:
        target = f"≥ {number.at_least:g}{unit}"
    met = "" if number.met is None else "yes" if number.met else "**no**"
    digits = f"{number.value:.3g}" if number.value < 1 else harness.three_digits(number.value)
    value = f"{number.value:.0f}" if number.value == int(number.value) else digits
    return [f"{value}{unit}", target, met]


def escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
