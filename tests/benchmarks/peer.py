"""Run another program that times its own rasterizer.

FOURDVD_PEER_BENCH names an executable that prints lines `N S milliseconds`, each the forward and
backward pass of an S × S image of the N Gaussians of `tests.benchmarks.ball`. FOURDVD_PEER_NAME is
its name in the table.
"""

from __future__ import annotations

import os
import subprocess
from collections import defaultdict

Samples = dict[tuple[int, int], list[float]]


def peer_name() -> str | None:
    """Name of the program to compare with; None if there is none."""
    if not os.environ.get("FOURDVD_PEER_BENCH"):
        return None
    return os.environ.get("FOURDVD_PEER_NAME", "peer")


def run_peer() -> Samples:
    """Run the program and return milliseconds by (N, S).

    Raises:
        subprocess.CalledProcessError: the program failed.
        ValueError: a line is not two integers and a number.
    """
    command = [os.environ["FOURDVD_PEER_BENCH"]]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    samples: Samples = defaultdict(list)
    for line in output.splitlines():
        N, S, elapsed_ms = line.split()
        samples[int(N), int(S)].append(float(elapsed_ms))
    return samples
