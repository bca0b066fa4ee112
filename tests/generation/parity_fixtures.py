"""Fixtures with results of the reference implementation, and their reader.

A folder of them is described by its JSON files; nothing about sizes or names is assumed here.
"""

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import UNetConfig

BUNDLED = Path(__file__).parent / "reference"
WHOLE = Path(os.environ.get("FOURDVD_REFERENCE", Path(__file__).parents[3] / "shared/reference"))


Config = TypeVar("Config", bound=UNetConfig)


class Fixture(NamedTuple):
    """A JSON file and the folder of its kind."""

    path: Path

    @property
    def meta(self) -> dict[str, Any]:
        return json.loads(self.path.read_text())

    def tensors(self, suffix: str = ".safetensors") -> dict[str, Tensor]:
        return load_file(self.path.with_suffix("").with_suffix(suffix))


def fixtures_of(kind: str, only: str = "*") -> list[Any]:
    """Parameters for all fixtures of a kind; one that is skipped where the whole set is absent."""
    found = [
        pytest.param(Fixture(path), id=f"{'bundled' if folder == BUNDLED else 'whole'}-{path.stem}")
        for folder in (BUNDLED, WHOLE)
        for path in sorted((folder / kind).glob(f"{only}.json"))
    ]
    if not (WHOLE / kind).is_dir():
        reason = f"no {WHOLE / kind} (set FOURDVD_REFERENCE)"
        found.append(pytest.param(None, marks=pytest.mark.skip(reason=reason), id="whole"))
    return found


def read_network(fixture: Fixture) -> SV3DUNet | SV4DUNet:
    """The tiny network of a UNet fixture, with its weights."""
    meta = fixture.meta
    tensors: dict[str, Tensor] = {}
    for name in meta["weights"]:
        tensors |= load_file(fixture.path.with_name(name))
    state = {
        key.removeprefix(meta["key_prefix"]): tensor.float() for key, tensor in tensors.items()
    }
    if meta["class"] == "VideoUNet":
        network = SV3DUNet(read_config(UNetConfig, meta["config"]))
    else:
        network = SV4DUNet(read_config(SV4DConfig, meta["config"]))
    network.load_state_dict(state)
    return network.eval()


def read_config(kind: type[Config], values: dict[str, Any]) -> Config:
    names = {field.name for field in fields(kind)} & values.keys()
    return kind(**{name: _hashable(values[name]) for name in names})


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def error(found: Tensor, expected: Tensor) -> tuple[float, float]:
    """Return maximum and root-mean-square error, each relative to that of the expected values."""
    difference = (found - expected).double()
    return (
        float(difference.abs().max() / expected.abs().max()),
        float(difference.square().mean().sqrt() / expected.double().square().mean().sqrt()),
    )


@torch.inference_mode()
def call(network: SV3DUNet | SV4DUNet, meta: dict[str, Any], io: dict[str, Tensor]) -> Tensor:
    """Run the network on one case."""
    inputs = (io["x"], io["timesteps"], io["y"])
    if isinstance(network, SV3DUNet):
        still = io["image_only_indicator"].flatten().bool()
        return network(*inputs, io["context"].squeeze(1), meta["F"], still)
    return network(*inputs, io["context"], io["cond_view"].unflatten(0, (-1, meta["V"])))
