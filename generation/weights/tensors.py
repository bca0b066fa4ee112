"""Named tensors of foreign networks: a `.pth` or safetensors file, loaded into a module.

`.pth` files are read with torch's restricted unpickler (`weights_only=True`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from recon.errors import WeightsError

Network = TypeVar("Network", bound=nn.Module)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read the named tensors of a `.pth` or safetensors file.

    Raises:
        WeightsError: the file does not exist, or holds anything but named tensors.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: no such weights file; check the path")
    try:
        tensors = _read(file)
    except Exception as error:  # both readers raise whatever their parsers do
        raise WeightsError(
            f"{file}: expected a .pth or safetensors file with plain tensors ({error})"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise WeightsError(f"{file}: expected named tensors only")
    return tensors


def load_into(network: Network, tensors: dict[str, Tensor], file: Path) -> Network:
    """Load tensors into a network and freeze it.

    Raises:
        WeightsError: names or shapes differ from the network's; the message names the first one.
    """
    expected = network.state_dict()
    for name in [*expected, *tensors]:  # in order, so that the message is reproducible
        if name not in tensors:
            raise WeightsError(f"{file}: {name} is missing; is it the file of another network?")
        if name not in expected:
            raise WeightsError(f"{file}: unexpected {name}; is it the file of another network?")
        if tensors[name].shape != expected[name].shape:
            raise WeightsError(
                f"{file}: expected {name} of shape {tuple(expected[name].shape)}, "
                f"found {tuple(tensors[name].shape)}"
            )
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def _read(file: Path) -> object:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251  (restricted)
