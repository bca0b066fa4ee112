"""Weights of `lift` with a tiny network of random numbers, which makes flat objects of a disc."""

from __future__ import annotations

from pathlib import Path

import torch

from generation.lift.network import LiftConfig, LiftNetwork
from generation.weights.catalogue import LIFT_FILE
from generation.weights.files import save_weights

CONFIG = LiftConfig(
    size=32,
    widths=(32, 32, 32, 32),
    down_blocks=(0, 0, 0),
    middle_blocks=1,
    up_blocks=(0, 0, 0),
    heads=2,
    encoder=False,
)


def tiny_network(config: LiftConfig = CONFIG) -> LiftNetwork:
    """A network without gradients; its predictions depend on the yaw that it is given."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = LiftNetwork(config).eval().requires_grad_(False)
        for block in network.middle:
            for layer in ("modulation", "out"):
                torch.nn.init.normal_(block.get_parameter(f"{layer}.weight"), std=0.3)
        torch.nn.init.normal_(network.head.outputs.weight, std=0.01)
    return network


def write_lift(folder: Path, config: LiftConfig = CONFIG) -> Path:
    """Write weights; return the folder."""
    save_weights(folder / LIFT_FILE, config, tiny_network(config).state_dict())
    return folder
