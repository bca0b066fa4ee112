"""Measure time and memory of loading a published file: full size, random numbers, then deleted.

    python -m tests.benchmarks.loading [--model sv4d2] [--folder /tmp]

Each load runs in its own process. Peak RSS includes the mapped pages of the file, which the system
reclaims when other programs need memory; anonymous RSS is what the process itself allocated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from generation.weights.catalogue import PublishedModel, expected_shapes, published
from tests.benchmarks import harness

BLOCK = 2**24  # numbers, over and over
GIB = 2**30


class Loading(NamedTuple):
    """Cost of one load: seconds, peak RSS and peak anonymous RSS in bytes."""

    seconds: float
    resident: int
    own: int


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.loading")
    parser.add_argument("--model", choices=published, default="sv4d2")
    parser.add_argument("--folder", type=Path, help="where 12 GB are written, and deleted")
    parser.add_argument(
        "--load", nargs=2, metavar=("FILE", "DTYPE"), help="what each child process loads"
    )
    harness.add_options(parser, "loading")
    options = parser.parse_args(arguments)
    model = published[options.model]
    if options.load:
        print(json.dumps(load(model, Path(options.load[0]), options.load[1])))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / model.file_name
        write_random(path, model)
        rows = [row(dtype, measure(model, path, dtype)) for dtype in ("float32", "bfloat16")]
        size, hashing = path.stat().st_size, seconds_of_hash(path)
    header = ("networks in", "s", "peak RSS", "peak anonymous RSS")
    caption = (
        f"{model.label}, a file of {size / GIB:.1f} GiB in float32, read once before; networks on "
        f"the CPU. Its sha256 takes {hashing:.0f} s more. {harness.describe_machine('cpu')}"
    )
    harness.publish(options.section, f"{harness.table(header, rows)}\n\n{caption}", options.page)


def write_random(path: Path, model: PublishedModel) -> None:
    """Write a file with the tensors of a published one, filled with random numbers."""
    shapes, end = expected_shapes(model.name), 0
    header = {}
    for key, shape in shapes.items():
        begin, end = end, end + 4 * prod(shape)
        header[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = (0.02 * np.random.default_rng(0).standard_normal(BLOCK, np.float32)).tobytes()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _ in range(end // len(block)):
            file.write(block)
        file.write(block[: end % len(block)])


def measure(model: PublishedModel, path: Path, dtype: str) -> Loading:
    command = [sys.executable, "-m", "tests.benchmarks.loading", "--model", model.name]
    result = subprocess.run(
        [*command, "--load", str(path), dtype], capture_output=True, text=True, check=True
    )
    return Loading(*json.loads(result.stdout.splitlines()[-1]))


def load(model: PublishedModel, path: Path, dtype: str) -> Loading:
    """Load all networks of a file in this process."""
    import torch

    from generation.weights.model_weights import open_published

    with harness.peak_memory() as peak:
        began = time.perf_counter()
        networks = open_published(path, model).load(torch.device("cpu"), getattr(torch, dtype))
        total = sum(float(p.sum()) for p in networks.unet.parameters())  # touches every page
        seconds = time.perf_counter() - began
        assert total == total
    return Loading(seconds, peak["VmHWM"], peak["RssAnon"])


def seconds_of_hash(path: Path) -> float:
    from generation.weights.verify import file_sha256

    began = time.perf_counter()
    file_sha256(path)
    return time.perf_counter() - began


def row(dtype: str, loading: Loading) -> list[str]:
    return [
        dtype,
        f"{loading.seconds:.1f}",
        f"{loading.resident / GIB:.1f} GiB",
        f"{loading.own / GIB:.1f} GiB",
    ]


if __name__ == "__main__":
    main()
