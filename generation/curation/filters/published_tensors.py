"""Tensors of published networks that measure images: `.pth` and safetensors files, checked.

A `.pth` file is a pickle; it is read by torch's restricted reader, which builds tensors and plain
containers only. What it does not know: the networks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from recon.errors import WeightsError

Network = TypeVar("Network", bound=nn.Module)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The named tensors of a file.

    Raises:
        WeightsError: there is no such file, or it holds anything else.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: there is no such file of weights")
    try:
        tensors = _load(file)
    except Exception as error:  # both readers raise whatever their parsers do
        raise WeightsError(f"{file} is no file of plain tensors ({error})") from error
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise WeightsError(f"{file}: expected named tensors, found other things among them")
    return tensors


def load_into(network: Network, tensors: dict[str, Tensor], file: Path) -> Network:
    """The network with the tensors in it, ready to measure with.

    Raises:
        WeightsError: names or shapes differ from the network's; says the first that does.
    """
    expected = network.state_dict()
    for name in [*expected, *tensors]:  # in order: the same file has the same message each time
        if name not in tensors:
            raise WeightsError(f"{file}: {name} is missing; is it the file of another network?")
        if name not in expected:
            raise WeightsError(f"{file}: {name} was not expected; is it of another network?")
        if tensors[name].shape != expected[name].shape:
            raise WeightsError(
                f"{file}: expected {name} of shape {tuple(expected[name].shape)}, "
                f"found {tuple(tensors[name].shape)}"
            )
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def _load(file: Path) -> object:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251  (restricted)
