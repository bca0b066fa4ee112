"""One process of a training of the toy stage; `test_two_processes` starts several."""

import os
import sys
from dataclasses import replace

import torch

from generation.training.engine import train
from tests.generation.training.toy_stage import SETTINGS, ToyStage


def main(shards: str, output: str, grad_accum_steps: str, steps: str) -> None:
    torch.set_num_threads(1)
    settings = replace(
        SETTINGS, batch_size=4, grad_accum_steps=int(grad_accum_steps), steps=int(steps)
    )
    stage = ToyStage()
    train(stage, settings, shards, output)
    shares = settings.grad_accum_steps * int(os.environ.get("WORLD_SIZE", "1"))
    assert stage.samples == settings.batch_size // shares, "the processes did not find each other"


if __name__ == "__main__":
    main(*sys.argv[1:])
