"""Saving and resuming unfinished work, and byte-stable safetensors files.

A resumable computation saves its tensors with a description in JSON. The description contains an
*identity*: everything that must match for the state to be resumed (settings, fingerprints of inputs
and weights). A state that does not match is an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recon.errors import InputError, OutputExistsError
from recon.output import output_file, system_error

HEADER_SIZE_BYTES = 8  # little-endian length of the JSON header, at the start of the file
METADATA = "__metadata__"
SHOWN_DIFFERENCES = 5


class SavedState(NamedTuple):
    """A state read from disk.

    Attributes:
        tensors: by name.
        description: the JSON object saved with them.
    """

    tensors: dict[str, Tensor]
    description: dict[str, Any]


def fingerprint(*parts: np.ndarray | bytes | str) -> str:
    """Return the sha256 of arrays, their types and shapes, bytes and strings, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def check_same(
    saved: Mapping[str, Any], wanted: Mapping[str, Any], path: str | Path, what: str
) -> None:
    """Check that a saved state belongs to the computation that resumes it.

    Args:
        saved: identity as read from JSON.
        wanted: identity of the resuming computation; tuples equal lists.
        path: file or folder of the saved state, for the message.
        what: kind of computation for the message, e.g. "an unfinished fit".

    Raises:
        OutputExistsError: the identities differ; the message lists the first differences.
    """
    found = differences(saved, wanted)
    if found:
        raise OutputExistsError(
            path,
            "choose another folder, or pass --overwrite to start again",
            state=f"contains {what} with different settings or inputs ({found})",
        )


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Describe the first differences of two identities, see `check_same`; empty if they agree."""
    ours, theirs = _flat(json.loads(json.dumps(wanted))), _flat(saved)
    names = [n for n in dict.fromkeys((*theirs, *ours)) if theirs.get(n) != ours.get(n)]
    listed = [
        f"{n} was {_short(theirs.get(n))}, is now {_short(ours.get(n))}"
        for n in names[:SHOWN_DIFFERENCES]
    ]
    if len(names) > SHOWN_DIFFERENCES:
        listed.append(f"and {len(names) - SHOWN_DIFFERENCES} more")
    return "; ".join(listed)


def save_state(
    path: Path,
    tensors: Mapping[str, Tensor],
    description: Mapping[str, Any],
    *,
    format: str,
    version: str,
) -> None:
    """Write a resumable state, replacing an older one atomically.

    Args:
        path: the file.
        tensors: by name, on any device.
        description: JSON object that contains the identity.
        format: name of the file format, which `load_state` checks.
        version: version of the file format.

    Raises:
        OSError: the file cannot be written; the older state is kept.
    """
    header = {"format": format, "version": version, "description": json.dumps(description)}
    with output_file(path, overwrite=True) as partial:
        save_tensors(partial, tensors, header)


def load_state(path: Path, *, format: str, version: str, device: str = "cpu") -> SavedState | None:
    """Read a state written by `save_state`; None if the file does not exist.

    Raises:
        InputError: the file is damaged, or of another format or version.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt", device=device) as file:
            description = _description(file.metadata() or {}, path, format, version)
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"the saved state is damaged ({error}); delete it to start again", path
        ) from error
    return SavedState(tensors, description)


def read_description(path: Path, *, format: str, version: str) -> dict[str, Any] | None:
    """Read the description of a saved state without its tensors; arguments as in `load_state`."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            return _description(file.metadata() or {}, path, format, version)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"the saved state is damaged ({error}); delete it to start again", path
        ) from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whose bytes depend only on its content.

    The safetensors library writes metadata in arbitrary order, so equal content gives files of
    different sha256. Here it is sorted.

    Args:
        path: the file; an existing one is replaced.
        tensors: by name, on any device.
        metadata: text by name.

    Raises:
        OSError: the file cannot be written.
    """
    numbers = {name: each.detach().cpu().contiguous() for name, each in tensors.items()}
    path.touch()
    mode = path.stat().st_mode  # safetensors makes files that only their owner can read
    try:
        save_file(numbers, path, dict(metadata))
    except SafetensorError as error:
        raise system_error(str(error), path) or error from error
    path.chmod(mode)
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(HEADER_SIZE_BYTES), "little")
        header = json.loads(file.read(size))
        header[METADATA] = dict(sorted(header[METADATA].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        file.seek(HEADER_SIZE_BYTES)
        file.write(text.ljust(size))  # the same characters in another order: the same length


def tensors_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _description(
    header: Mapping[str, str], path: Path, format: str, version: str
) -> dict[str, Any]:
    found = header.get("format"), header.get("version")
    if found != (format, version):
        raise InputError(
            f"expected {format} version {version}, found {found[0]} version {found[1]}; delete it "
            "to start again",
            path,
        )
    return json.loads(header["description"])


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten `{"a": {"b": 1}}` to `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, each in value.items():
        if isinstance(each, dict):
            flat |= _flat(each, f"{prefix}{name}.")
        else:
            flat[prefix + name] = each
    return flat


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
