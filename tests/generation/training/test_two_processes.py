"""Distributed training on two processes gives the weights of a single one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from generation.training.run_folder import read_log

REPOSITORY = Path(__file__).parents[3]
PATIENCE_SECONDS = 180


def train_together(count: int, *arguments: object) -> None:
    """Run `two_processes` in processes that are started as by torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.generation.training.two_processes"]
    processes = [
        subprocess.Popen(
            [*command, *map(str, arguments)],
            cwd=REPOSITORY,
            env=os.environ | (shared if count > 1 else {}) | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in map(str, range(count))
    ]
    output = [process.communicate(timeout=PATIENCE_SECONDS)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * count, output


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_resume_its_training(tiny_shards, tmp_path):
    from tests.generation.training.two_processes import main

    main(str(tiny_shards), str(tmp_path / "one"), "1", "6")
    main(str(tiny_shards), str(tmp_path / "two"), "1", "2")
    train_together(2, tiny_shards, tmp_path / "two", 2, 6)
    one, two = (read_log(tmp_path / name) for name in ("one", "two"))
    one, two = ([each["loss"] for each in log if "loss" in each] for log in (one, two))
    np.testing.assert_allclose(two, one, rtol=1e-6)
    ours, theirs = (
        load_file(tmp_path / name / "weights" / "toy.safetensors") for name in ("one", "two")
    )
    for name in ours | theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6)
