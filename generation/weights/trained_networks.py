"""Networks that `fourdvd train` has made, on disk: safetensors that say what they are.

    format     "fourdvd-network"
    version    "1"
    kind       "sv3d", "sv4d" or "token-tower"
    config     JSON: the sizes, from which the network is built
    vae_sha256 of the autoencoder in whose latents it works

What it does not know: how they were trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from generation.models.image_encoders import ConvImageEncoder, ConvImageEncoderConfig
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import UNetConfig
from generation.weights.store import file_sha256, load_module
from recon.errors import FourdvdError, WeightsError
from recon.output import output_file
from recon.resume import save_tensors

FORMAT, VERSION = "fourdvd-network", "1"
KINDS: dict[str, tuple[type[nn.Module], type[Any]]] = {
    "sv3d": (SV3DUNet, UNetConfig),
    "sv4d": (SV4DUNet, SV4DConfig),
    "token-tower": (ConvImageEncoder, ConvImageEncoderConfig),
}


class TrainedNetwork(NamedTuple):
    """A network and where it is from.

    Attributes:
        network: float32, in evaluation and without gradients.
        vae_sha256: of the autoencoder in whose latents it works.
        sha256: of its own file.
    """

    network: Any
    vae_sha256: str
    sha256: str


def save_network(
    path: Path,
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    vae_sha256: str,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes a network.

    Args:
        path: of a new file.
        network: of a class of `KINDS`, for its kind and sizes.
        tensors: its state.
        vae_sha256: of the autoencoder in whose latents it works.
        dtype: of the tensors in the file.

    Raises:
        OutputExistsError, OutputError: as `recon.output.output_file`.
    """
    kind = next(name for name, (cls, _) in KINDS.items() if type(network) is cls)
    notes = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "config": json.dumps(asdict(network.config)),  # type: ignore[arg-type]
        "vae_sha256": vae_sha256,
    }
    numbers = {name: each.detach().to("cpu", dtype) for name, each in tensors.items()}
    with output_file(path, overwrite=False) as partial:
        save_tensors(partial, numbers, notes)


def load_network(path: Path, kind: str, vae_sha256: str | None = None) -> TrainedNetwork:
    """Reads a network.

    Args:
        path: of the file.
        kind: which one it must be, a key of `KINDS`.
        vae_sha256: of the autoencoder in whose latents it must work; any one if None.

    Raises:
        WeightsError: the file is missing, damaged, of another kind or for another autoencoder.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            _check(notes, kind, vae_sha256)
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        cls, config = KINDS[kind]
        with torch.device("meta"):
            network = cls(_config(config, json.loads(notes["config"])))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a network that can be read ({error})") from error
    except FourdvdError as error:
        raise WeightsError(f"{path}: {error}") from error
    return TrainedNetwork(load_module(network, tensors), notes["vae_sha256"], file_sha256(path))


def read_sizes(path: Path, kind: str) -> Any:
    """The sizes of a network, of the class that `KINDS` has for its kind; no tensor is read.

    Raises:
        WeightsError: as `load_network`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
        _check(notes, kind, None)
        return _config(KINDS[kind][1], json.loads(notes["config"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a network that can be read ({error})") from error
    except FourdvdError as error:
        raise WeightsError(f"{path}: {error}") from error


def _check(notes: Mapping[str, str], kind: str, vae_sha256: str | None) -> None:
    wanted = {"format": FORMAT, "version": VERSION, "kind": kind, "vae_sha256": vae_sha256}
    for key, expected in wanted.items():
        found = notes.get(key, "nothing")
        if expected is not None and found != expected:
            raise WeightsError(f"expected {expected} as its {key}, found {found}")


def _config(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """A dataclass of numbers and tuples from JSON, which has lists."""
    names = {field.name for field in fields(kind)}
    if set(values) != names:
        raise ValueError(f"sizes are named {sorted(values)}, not {sorted(names)}")
    return kind(**{name: tuple(x) if isinstance(x, list) else x for name, x in values.items()})
