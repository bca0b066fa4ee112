"""Distributed training on two processes gives the weights of a single one."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from generation.training.batches import Batches
from generation.training.optimization import Optimization
from generation.training.processes import started_processes
from generation.training.run_folder import list_checkpoints, read_log
from tests.generation.training.toy_stage import ToyStage
from tests.generation.training.two_processes import AVERAGED

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


def averaged_in_one_process(shards: Path, steps: int) -> dict[str, torch.Tensor]:
    """Train as two processes do that average every second step; return the EMA weights."""
    dataset = ToyStage().dataset([shards], AVERAGED)
    settings = replace(AVERAGED, average_every=0, steps=steps)
    with started_processes(settings) as accelerator:
        both = [Optimization(ToyStage(), settings, accelerator) for _ in range(2)]
        batches = [iter(Batches(dataset, settings, rank, 2)) for rank in range(2)]
        for step in range(1, steps + 1):
            for optimization, own in zip(both, batches, strict=True):
                optimization.step_once(next(own))
            if step % AVERAGED.average_every == 0:
                one, other = (optimization.state_dict() for optimization in both)
                mean = {name: (one[name] + other[name]) / 2 for name in one}
                for optimization in both:
                    optimization.load_state_dict(step, {k: x.clone() for k, x in mean.items()})
        return both[0].ema_weights()


@pytest.mark.slow
def test_two_processes_average_their_weights_and_resume(tiny_shards, tmp_path):
    for steps in (4, 8):  # the second call resumes the first
        train_together(2, tiny_shards, tmp_path / "out", 1, steps, "averaged")
    found = load_file(tmp_path / "out" / "weights" / "toy.safetensors")
    for name, expected in averaged_in_one_process(tiny_shards, 8).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)
    assert [each["step"] for each in read_log(tmp_path / "out") if "loss" in each] == [*range(1, 9)]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_all_processes_end_if_one_that_steps_alone_diverges(tiny_shards, tmp_path, rank):
    train_together(2, tiny_shards, tmp_path / "out", 1, 8, "averaged", 3, rank)
    newest = list_checkpoints(tmp_path / "out" / "checkpoints")[-1]
    assert newest.name == "step_00000002.safetensors"
