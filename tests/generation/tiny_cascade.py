"""LoRA and branch files for the tiny networks, and a job of the cascade."""

from pathlib import Path

import torch

from generation.models.lora import add_lora, lora_parameters, lora_settings, lora_state
from generation.models.structure_branch import build_branch
from generation.models.sv4d import SV4DUNet
from generation.networks import Networks
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE
from generation.weights.files import save_weights
from tests.generation.models.random_weights import numbers, with_random_weights
from tests.generation.tiny_networks import tiny_weights


def tiny_sv4d(folder: Path) -> Networks:
    """Tiny networks in place of those of SV4D's file."""
    return tiny_weights(folder, "sv4d")["sv4d"].load(torch.device("cpu"), torch.float32)


def write_trained(
    folder: Path,
    effect: float = 0.3,
    name: str = "layerwise",
    roles: str = "reference_query",
    base_sha256: str | None = None,
) -> dict[str, Path]:
    """A LoRA and a branch for the tiny networks; those of no effect are as training finds them.

    Args:
        folder: gets them, and the weights of SV4D.
        effect: size of the LoRA's numbers; 0: neither of the two does anything.
        name: of the branch.
        roles: of its MAP.
        base_sha256: that they tell; None: the right one.
    """
    weights, unet = tiny_weights(folder, "sv4d")["sv4d"], tiny_sv4d(folder).unet
    assert isinstance(unet, SV4DUNet)
    base = base_sha256 or weights.sha256
    branch = build_branch(name, unet.config, roles)
    if effect:
        with_random_weights(branch)
    requires = {"base": base}
    save_weights(
        folder / BRANCH_FILE, branch.settings, branch.state_dict(), requires, overwrite=True
    )
    add_lora(unet, 2, 2.0)
    if effect:
        for index, parameter in enumerate(lora_parameters(unet)):
            parameter.data = effect * numbers(*parameter.shape, seed=index)
    save_weights(
        folder / LORA_FILE, lora_settings(unet), lora_state(unet), requires, overwrite=True
    )
    return {file: folder / file for file in (LORA_FILE, BRANCH_FILE)}
