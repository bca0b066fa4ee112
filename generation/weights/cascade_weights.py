"""Weights of the cascade on disk: the coarse stage's LoRA and the fine stage's branch.

Safetensors files, whose metadata says what they are:

    format            "fourdvd-lora" or "fourdvd-structure-branch"
    version           "1"
    base_sha256       of the published file on which the weights were trained
    hyper_parameters  JSON; of a LoRA `rank` and `alpha`, of a branch `name` and `roles`

A file for another base, or another thing than was asked for, is refused, because its numbers would
be taken without a complaint and spoil every image. What it does not know: how they were trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from generation.models.lora import (
    add_lora,
    load_lora_state,
    lora_settings,
    lora_state,
    merge_lora,
)
from generation.models.structure_branch import StructureBranch, build_branch
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.weights.header import read_header
from generation.weights.store import load_module
from generation.weights.verify import FLOATS
from recon.errors import WeightsError
from recon.output import output_file
from recon.resume import save_tensors

LORA, BRANCH = "fourdvd-lora", "fourdvd-structure-branch"
VERSION = "1"


class CascadeFile(NamedTuple):
    """What a file of the right kind and base holds.

    Attributes:
        path: of the file.
        hyper_parameters: by name.
    """

    path: Path
    hyper_parameters: Mapping[str, Any]

    def tensors(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """All tensors by key."""
        with safe_open(self.path, framework="pt") as file:
            return {
                key: file.get_tensor(key).to(device=device, dtype=dtype)
                for key in file.keys()  # noqa: SIM118
            }


def save_lora(
    path: str | Path,
    unet: SV4DUNet,
    base_sha256: str,
    overwrite: bool = False,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes the LoRA of a network.

    Args:
        path: the file.
        unet: after `add_lora`.
        base_sha256: of the file that the network's own weights are from, in hexadecimal digits.
        overwrite: whether an existing file may be replaced.
        dtype: of the tensors in the file.

    Raises:
        OutputExistsError, OutputError: as `recon.output.output_file`.
    """
    tensors = {key: tensor.to(dtype) for key, tensor in lora_state(unet).items()}
    _save(path, LORA, base_sha256, lora_settings(unet)._asdict(), tensors, overwrite)


def load_lora(path: str | Path, unet: SV4DUNet, base_sha256: str) -> None:
    """Puts a saved LoRA on a network, in the rank it was saved with.

    Args:
        path: the file.
        unet: the base, without a LoRA.
        base_sha256: of the file that the network's own weights are from.

    Raises:
        WeightsError: the file is not whole, not a LoRA of this format, of another base, or does not
            fit the network.
    """
    file = open_cascade_file(path, LORA, base_sha256)
    rank, alpha = file.hyper_parameters.get("rank"), file.hyper_parameters.get("alpha")
    if not (isinstance(rank, int) and rank > 0 and isinstance(alpha, int | float)):
        raise WeightsError(
            f"{path}: expected a rank of at least 1 and a number as alpha, "
            f"found {rank!r} and {alpha!r}; the file is damaged"
        )
    add_lora(unet, rank, alpha)
    try:
        load_lora_state(unet, file.tensors())
    except WeightsError as error:
        merge_lora(unet)  # it has no effect yet, so this gives the network back as it was
        raise WeightsError(f"{path}: {error}") from error


def save_branch(
    path: str | Path, branch: StructureBranch, base_sha256: str, overwrite: bool = False
) -> None:
    """Writes a structure condition branch; arguments and errors as `save_lora`."""
    settings = {"name": branch.name, "roles": branch.roles}
    _save(path, BRANCH, base_sha256, settings, branch.state_dict(), overwrite)


def load_branch(
    path: str | Path,
    config: SV4DConfig,
    base_sha256: str,
    name: str = "layerwise",
    roles: str = "reference_query",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> StructureBranch:
    """Reads a structure condition branch.

    Args:
        path: the file.
        config: of the base network.
        base_sha256: of the base network's file.
        name: which branch it must be, see `build_branch`.
        roles: which roles its MAP must have.
        dtype: which its tensors get.
        device: on which they come to lie.

    Returns:
        The branch, in evaluation and without gradients.

    Raises:
        WeightsError: the file is not whole, not a branch of this format, of another base, of
            another name or of other roles, or does not fit the network.
        InputError: as `build_branch`.
    """
    file = open_cascade_file(path, BRANCH, base_sha256)
    for key, expected in {"name": name, "roles": roles}.items():
        found = file.hyper_parameters.get(key)
        if found != expected:
            raise WeightsError(
                f"{path}: expected a structure branch whose {key} is {expected!r}, found {found!r}"
            )
    with torch.device("meta"):
        branch = build_branch(name, config, roles)
    try:
        return load_module(branch, file.tensors(dtype, device))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def open_cascade_file(path: str | Path, kind: str, base_sha256: str) -> CascadeFile:
    """Makes sure of what a file says about itself; no tensor is read.

    Args:
        path: the file.
        kind: the expected format, `LORA` or `BRANCH`.
        base_sha256: of the base network's file.

    Raises:
        WeightsError: the file is not whole, or not of this format, version and base.
    """
    path = Path(path)
    for key, entry in read_header(path).items():
        if entry.dtype not in FLOATS:
            raise WeightsError(f"{path}: expected floating-point tensors, {key} is {entry.dtype}")
    with safe_open(path, framework="pt") as file:
        notes = file.metadata() or {}
    wanted = {"format": kind, "version": VERSION, "base_sha256": base_sha256}
    for key, expected in wanted.items():
        found = notes.get(key, "nothing")
        if found != expected:
            raise WeightsError(
                f"{path}: expected {expected} as its {key}, found {found}", hint=_hint(key)
            )
    return CascadeFile(path, _parse(path, notes.get("hyper_parameters", "")))


def _hint(key: str) -> str:
    if key == "base_sha256":
        return "use the weights on the network they were trained on, or train them on this one"
    return "name a file that this version of fourdvd has written for this stage"


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: expected hyper-parameters as a JSON object, found {text!r}")
    return value


def _save(
    path: str | Path,
    kind: str,
    base_sha256: str,
    hyper_parameters: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    overwrite: bool,
) -> None:
    notes = {
        "format": kind,
        "version": VERSION,
        "base_sha256": base_sha256,
        "hyper_parameters": json.dumps(hyper_parameters),
    }
    with output_file(path, overwrite) as partial:
        save_tensors(partial, tensors, notes)
