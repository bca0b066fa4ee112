"""One process of a training of the toy stage; `test_two_processes` starts several."""

import os
import sys
from contextlib import suppress
from dataclasses import replace

import torch

from generation.training.engine import train
from recon.errors import DivergedError
from tests.generation.training.toy_stage import SETTINGS, ToyStage

AVERAGED = replace(
    SETTINGS, batch_size=4, average_every=2, eval_every=4, images_every=4, checkpoint_every=2
)


def main(
    shards: str,
    output: str,
    grad_accum_steps: str,
    steps: str,
    averaged: str = "",
    diverges_at: str = "",
    diverging_rank: str = "",
) -> None:
    torch.set_num_threads(1)
    settings = replace(
        AVERAGED if averaged else replace(SETTINGS, batch_size=4),
        grad_accum_steps=int(grad_accum_steps),
        steps=int(steps),
    )
    diverges = diverges_at and os.environ["RANK"] == diverging_rank
    stage = ToyStage(diverges_at=int(diverges_at) if diverges else None)
    if diverges_at:
        with suppress(DivergedError):
            train(stage, settings, shards, output)
            raise AssertionError("the processes did not share that one diverged")
        return
    train(stage, settings, shards, output)
    shares = settings.grad_accum_steps * int(os.environ.get("WORLD_SIZE", "1"))
    assert stage.samples == settings.batch_size // shares, "the processes did not find each other"


if __name__ == "__main__":
    main(*sys.argv[1:])
