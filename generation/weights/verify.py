"""Verification of weights files: read the safetensors header and compare it with a model.

A safetensors file is 8 bytes (length n of the header, little endian), n bytes of JSON, then the
values. Only headers are read, so files of 12 GB take as long as small ones; the values themselves
are not checked.

Files named .safetensors are often something else (a web page, a git-lfs pointer, a pickle). Each
is recognized, because each needs a different fix.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from generation.models.loading import Shape, ShapeDifference, compare_shapes
from generation.weights.catalogue import PublishedModel, expected_shapes, published
from generation.weights.store import find_published, list_published
from recon.errors import WeightsError

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
ALIKE = 0.1  # a file is "more like" another model if a smaller fraction of its tensors differ
FETCH_AGAIN = "; fetch it again"

_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_TOLERATED = ("conditioner.", "first_stage_model.")  # keys with these prefixes may be unknown


def file_sha256(path: str | Path) -> str:
    """Compute the sha256 of a file, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Entry(NamedTuple):
    """Header entry of a tensor.

    Attributes:
        dtype: type in the format's spelling: "F32", "F16", "BF16", "I64", …
        shape: shape of the tensor.
        end: offset of the first byte after its values, from the end of the header.
    """

    dtype: str
    shape: Shape
    end: int


class Header(NamedTuple):
    """Header of a safetensors file.

    Attributes:
        tensors: entries by key.
        metadata: text by key.
    """

    tensors: dict[str, Entry]
    metadata: dict[str, str]


class Verification(NamedTuple):
    """Facts about a file that holds the weights of a published model.

    Attributes:
        path: path of the file.
        size_bytes: size of the file.
        tensors: number of tensors.
        dtypes: sorted types of the tensors that are read, in the format's spelling.
        missing_unread: number of expected tensors that are missing but would not be read.
        extra_unread: number of additional tensors, which are not read.
    """

    path: Path
    size_bytes: int
    tensors: int
    dtypes: tuple[str, ...]
    missing_unread: int
    extra_unread: int


class Check(NamedTuple):
    """Result of verifying one published model on this machine.

    Attributes:
        model: the model.
        path: path of its file; None if it is not found.
        verification: facts about the file; None if it is invalid.
        error: the error; None if the file is valid.
    """

    model: PublishedModel
    path: Path | None
    verification: Verification | None
    error: WeightsError | None


def verify_found(
    models: Sequence[PublishedModel] = (),
    folder: str | Path | None = None,
    file: str | Path | None = None,
) -> list[Check]:
    """Verify the weights of published models on this machine.

    Args:
        models: models to verify; empty for all that are found.
        folder: folder to search first.
        file: file to verify as the only model, instead of searching.

    Raises:
        WeightsError: `folder` is not a folder.
    """
    here = list_published(folder)
    named = models or [model for model, path in here.items() if path is not None]
    return [_check(model, folder, file) for model in dict.fromkeys(named)]


def raise_failures(found: Sequence[WeightsError | None]) -> None:
    """Raise the error of the only check, or one that counts the failures.

    Args:
        found: the error of each check; None where the weights are valid.
    """
    errors = [error for error in found if error is not None]
    if errors and len(found) == 1:
        raise errors[0]
    if errors:
        raise WeightsError(
            f"{len(errors)} of {len(found)} models have missing or invalid weights",
            hint=errors[0].hint,
        ) from errors[0]


def _check(model: PublishedModel, folder: str | Path | None, file: str | Path | None) -> Check:
    path = None if file is None else Path(file)
    try:
        path = path or find_published(model, folder)
        return Check(model, path, verify_weights(path, model), None)
    except WeightsError as error:
        return Check(model, path, None, error)


def verify_weights(
    path: str | Path, model: PublishedModel, expected: Mapping[str, Shape] | None = None
) -> Verification:
    """Check that a file holds the weights of a published model.

    All tensors that are read (`PublishedModel.read_prefixes`), and no others with these prefixes,
    must be present with the right shape and a floating-point type. Unread parts may differ, as they
    do in published files. Tensors that belong to no part of the model, such as those of a LoRA, are
    rejected, because ignoring them would silently change the results.

    `sv4d2` and `sv4d2_8views` have the same tensors, so only their file names tell them apart.

    Args:
        path: a safetensors file.
        model: the model.
        expected: shapes by key; those of the published model if None.

    Raises:
        WeightsError: the file is no complete safetensors file, or belongs to another model.
    """
    path = Path(path)
    try:
        entries = read_header(path).tensors
        shapes = expected_shapes(model.name) if expected is None else expected
        difference = _difference(entries, shapes, model)
        if difference.total:
            raise WeightsError(f"{path}: {_mismatch(entries, model, difference)}")
    except WeightsError as error:
        error.hint = error.hint or (
            f"move the file away, then run `fourdvd models fetch {model.label} --accept-license`"
        )
        raise
    read = {key for key in entries if key.startswith(model.read_prefixes)}
    expected_read = {key for key in shapes if key.startswith(model.read_prefixes)}
    return Verification(
        path,
        path.stat().st_size,
        len(entries),
        tuple(sorted({entries[key].dtype for key in read})),
        len(shapes.keys() - entries.keys() - expected_read),
        len(entries.keys() - shapes.keys() - read),
    )


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file and check that the file is complete.

    Raises:
        WeightsError: the file is missing, cannot be read, is not a safetensors file, or is shorter
            or longer than its header says.
    """
    if path.is_dir():
        raise WeightsError(f"{path}: expected a safetensors file, found a folder")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
            length = int.from_bytes(start[:8], "little")
            if reason := _why_not_safetensors(start, length, size):
                raise WeightsError(f"{path}: {reason}")
            file.seek(8)
            header = _parse(path, file.read(length))
    except PermissionError as error:
        raise WeightsError(
            f"{path}: no permission to read it", hint="change its permissions, or copy it elsewhere"
        ) from error
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: there is no such file", hint="check the path") from error
    ends = (entry.end for entry in header.tensors.values())
    _check_size(path, size, 8 + length + max(ends, default=0))
    _check_structure(path)
    return header


def _why_not_safetensors(start: bytes, length: int, size: int) -> str | None:
    """Say what the file is instead; None if it begins like a safetensors file."""
    if size == 0:
        return f"the file is empty{FETCH_AGAIN}"
    # Safetensors comes first: the length of a header may look like "<".
    if start[8:9] == b"{" and length <= LONGEST_HEADER:
        cut = length > size - 8
        return f"the file ends inside its header, after {size} bytes{FETCH_AGAIN}" if cut else None
    if start.startswith(b"version https://git-lfs"):
        return "this is a git-lfs pointer, not the file itself; run `git lfs pull` beside it"
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return (
            "this is a web page, not weights: the download was refused, most likely because the "
            "license was not accepted or no account was logged in"
        )
    if start.startswith(_PICKLES):
        return (
            "this is a PyTorch checkpoint (a pickle) under another name; pickles can execute code "
            "and are never read, use the published safetensors file"
        )
    return (
        f"this is not a safetensors file: its header would be {length} bytes long, "
        f"at most {LONGEST_HEADER} are allowed"
    )


def _parse(path: Path, text: bytes) -> Header:
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", {})
        tensors = {
            key: Entry(entry["dtype"], tuple(entry["shape"]), int(entry["data_offsets"][1]))
            for key, entry in header.items()
        }
        return Header(tensors, dict(metadata))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: the header is not that of a safetensors file; the file is damaged"
            f"{FETCH_AGAIN}"
        ) from error


def _check_size(path: Path, found: int, expected: int) -> None:
    if found < expected:
        raise WeightsError(
            f"{path}: the file is truncated, expected {expected} bytes, found {found}{FETCH_AGAIN}"
        )
    if found > expected:
        raise WeightsError(
            f"{path}: expected {expected} bytes according to the header, found {found}{FETCH_AGAIN}"
        )


def _check_structure(path: Path) -> None:
    """Let the safetensors library check types, gaps, overlaps and duplicate keys."""
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: the header is inconsistent ({error}); the file is damaged{FETCH_AGAIN}"
        ) from error


def _difference(
    entries: Mapping[str, Entry], shapes: Mapping[str, Shape], model: PublishedModel
) -> ShapeDifference:
    """Compare the tensors that are read, and find those that belong to no part of the model."""
    read = model.read_prefixes
    counted = {
        key: entry
        for key, entry in entries.items()
        if key.startswith(read) or not key.startswith(_TOLERATED)
    }
    return compare_shapes(
        {key: entry.shape for key, entry in counted.items()},
        {key: shape for key, shape in shapes.items() if key.startswith(read)},
        [f"{key}: {entry.dtype}" for key, entry in counted.items() if entry.dtype not in FLOATS],
    )


def _mismatch(
    entries: Mapping[str, Entry], model: PublishedModel, difference: ShapeDifference
) -> str:
    """Describe what differs, and which other model the file fits better."""
    totals = {
        other: _difference(entries, expected_shapes(other.name), other).total
        for other in published.values()
        if other != model
    }
    fewest = min(totals.values())
    names = " or ".join(other.label for other in totals if totals[other] == fewest)
    if fewest == 0:
        return f"these are the weights of {names}, not of {model.label}"
    alike = fewest < min(difference.total, ALIKE * len(entries))
    return (
        f"these are not the weights of {model.label}; tensors: {difference}"
        f"{f'; the file is more like that of {names}' if alike else ''}"
    )
