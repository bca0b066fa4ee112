"""The state of a training on disk, from which it goes on as if it had never stopped.

    CHECKPOINTS/step_00001000/weights.safetensors     parameters that are trained
                              average.safetensors     their moving average
                              optimizer.safetensors   PARAMETER/MOMENT
                              state.json              step, order of samples, what was trained

A checkpoint is made beside its place and renamed, so that one is whole or not there; the newest two
stay. What it does not know: networks, processes.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recon.errors import InputError
from recon.output import output_folder, write_json

KEPT = 2
STATE_NAME = "state.json"
GROUPS = ("weights", "average", "optimizer")
_NAME = re.compile(r"step_(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """All that changes in a training.

    Attributes:
        step: how many were made.
        tensors: by group of `GROUPS` and name.
        order: state of `EpochSampler`.
        identity: what is trained and how, see `differences`.
        replaced: damaged samples that were passed over.
        seconds: of training so far.
    """

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    order: Mapping[str, Any]
    identity: Mapping[str, Any]
    replaced: int = 0
    seconds: float = 0.0


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint and removes all older ones but the newest.

    Returns:
        Its folder.

    Raises:
        OSError: it cannot be written; those that were there stay.
    """
    place = folder / f"step_{checkpoint.step:08d}"
    _remove_leftovers(folder)
    with output_folder(place, overwrite=True) as partial:
        for group in GROUPS:
            tensors = {
                name: tensor.detach().cpu().contiguous()
                for name, tensor in checkpoint.tensors[group].items()
            }
            save_file(tensors, partial / f"{group}.safetensors")
        state = {
            "step": checkpoint.step,
            "order": dict(checkpoint.order),
            "identity": dict(checkpoint.identity),
            "replaced": checkpoint.replaced,
            "seconds": checkpoint.seconds,
        }
        write_json(partial / STATE_NAME, state)
    for old in list_checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old)
    return place


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the newest last."""
    found = [path for path in folder.glob("step_*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def load_checkpoint(place: Path, identity: Mapping[str, Any]) -> Checkpoint:
    """Reads a checkpoint.

    Args:
        place: its folder.
        identity: what it has to be of.

    Raises:
        InputError: it is damaged, or of another training; says what differs.
    """
    try:
        state = json.loads((place / STATE_NAME).read_text(encoding="utf-8"))
        check_identity(state["identity"], identity, place)
        return Checkpoint(
            state["step"],
            {group: load_file(place / f"{group}.safetensors") for group in GROUPS},
            state["order"],
            state["identity"],
            state["replaced"],
            state["seconds"],
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the checkpoint is damaged ({error!r}); remove it to go on from the one before", place
        ) from error


def check_identity(found: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    """Raises InputError, with all differences, if what was saved is of another training."""
    ours, theirs = _flat(json.loads(json.dumps(expected))), _flat(found)
    differing = [name for name in (*theirs, *ours) if theirs.get(name) != ours.get(name)]
    if differing:
        told = "; ".join(
            f"{name} is {theirs.get(name)!r} there, {ours.get(name)!r} here"
            for name in dict.fromkeys(differing)
        )
        raise InputError(
            f"this is of another training: {told}; choose another folder, or pass --overwrite to "
            "start again",
            path,
        )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, each in value.items():
        if isinstance(each, dict):
            flat |= _flat(each, f"{prefix}{name}.")
        else:
            flat[prefix + name] = each
    return flat


def _remove_leftovers(folder: Path) -> None:
    """What a process that was killed while it wrote has left behind; see `recon.output`."""
    for leftover in folder.glob(".step_*"):
        shutil.rmtree(leftover)
