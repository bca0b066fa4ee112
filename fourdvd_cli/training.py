"""Run a training from the command line, with progress, resumable after Ctrl-C.

If `torchrun -m fourdvd_cli` starts several processes that train together, only the first one
prints.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fourdvd_cli import console, interrupts
from fourdvd_cli.options import check_inputs
from recon.devices import resolve_network_device

RANK_VARIABLE = "RANK"  # set by torchrun: index of this process


@dataclass(frozen=True)
class TrainingOptions:
    """Options of all training commands; None keeps the value of the configuration.

    Attributes:
        data: folders of shards, as written by `fourdvd data pack`; for lift, those of `data bake`.
        output: folder of the training.
        config: name or file of the configuration.
        steps: total number of optimizer steps.
        batch_size: samples per optimizer step.
        learning_rate: learning rate after the warm-up.
        seed: random seed.
        device: "auto", "cpu" or "cuda".
        num_workers: number of data loader processes.
        overwrite: whether to discard an existing training and start again.
        json: whether to print the result as JSON.
        quiet: whether to show no progress.
    """

    data: Sequence[Path]
    output: Path
    config: str = "mini"
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int | None = None
    device: str = "auto"
    num_workers: int | None = None
    overwrite: bool = False
    json: bool = False
    quiet: bool = False

    @property
    def overrides(self) -> dict[str, Any]:
        """The values that override the configuration."""
        names = ("steps", "batch_size", "learning_rate", "seed", "num_workers")
        device = resolve_network_device(self.device)
        return {name: getattr(self, name) for name in names} | {"device": device}


def run_training(stage: str, options: TrainingOptions, **inputs: Any) -> None:
    """Train a network with progress, and save a checkpoint on Ctrl-C.

    Args:
        stage: name of the training: a name in `generation.training.config.STAGES`.
        options: options of all training commands.
        inputs: fields of `generation.training.stages.StageInputs`.

    Raises:
        FourdvdError: as in `generation.training.stages.train_stage`; `Interrupted` on Ctrl-C.
    """
    check_inputs(*options.data)
    prints = int(os.environ.get(RANK_VARIABLE, "0")) == 0
    quiet = options.quiet or not prints
    with interrupts.stop_request() as should_stop:  # before the imports, which take seconds
        from generation.training.stages import StageInputs, train_stage

        with console.steps("training", quiet) as on_step:
            result = train_stage(
                stage,
                options.data,
                options.output,
                StageInputs(**inputs),
                config=options.config,
                overrides=options.overrides,
                overwrite=options.overwrite,
                on_step=on_step,
                should_stop=should_stop,
            )
    if not quiet:
        scores = ", ".join(f"{name} {value:.2f}" for name, value in result.scores.items())
        console.say(f"wrote {result.weights}: {scores}")
    if options.json and prints:
        console.print_json({"stage": stage, **asdict(result), "weights": str(result.weights)})
