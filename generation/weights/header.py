"""What a safetensors file says about itself, read without its tensors.

A file is 8 bytes (length n of the header, little endian), n bytes of JSON, then the numbers. Files
of 12 GB take as long as small ones. What people find under the name of a safetensors file is often
something else; each of those things is told apart, because each wants something else to be done.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from generation.weights.catalogue import Shape
from recon.errors import WeightsError

LONGEST_HEADER = 100_000_000  # the format's own limit
AGAIN = "; fetch it again"

_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class Entry(NamedTuple):
    """What the header says about a tensor.

    Attributes:
        dtype: as the format writes it: "F32", "F16", "BF16", "I64", …
        shape: of the tensor.
        end: first byte behind its numbers, counted from the end of the header.
    """

    dtype: str
    shape: Shape
    end: int


def read_header(path: Path) -> dict[str, Entry]:
    """Reads what a file holds, and makes sure that all of it is there.

    Args:
        path: a file that should be a safetensors file.

    Returns:
        Entries by key.

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
            entries = _parse(path, file.read(length))
    except PermissionError as error:
        raise WeightsError(
            f"{path}: no permission to read it", hint="change its permissions, or copy it elsewhere"
        ) from error
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: there is no such file", hint="check the path") from error
    _check_size(path, size, 8 + length + max((entry.end for entry in entries.values()), default=0))
    _check_structure(path)
    return entries


def _why_not_safetensors(start: bytes, length: int, size: int) -> str | None:
    """What else the file is, or None if its beginning is that of a safetensors file."""
    if size == 0:
        return f"the file is empty{AGAIN}"
    if (
        start[8:9] == b"{" and length <= LONGEST_HEADER
    ):  # first: a header's length may look like "<"
        cut = length > size - 8
        return f"the file ends inside its header, after {size} bytes{AGAIN}" if cut else None
    if start.startswith(b"version https://git-lfs"):
        return "this is a pointer of git-lfs, not the file itself; run `git lfs pull` beside it"
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return (
            "this is a web page, not weights: the download was refused, most likely because the "
            "licence was not accepted or nobody was logged in"
        )
    if start.startswith(_PICKLES):
        return (
            "this is a PyTorch checkpoint (a pickle) under another name; pickles can run programs "
            "and are never read, only the published safetensors file is"
        )
    return (
        f"this is not a safetensors file: its header would be {length} bytes long, "
        f"at most {LONGEST_HEADER} are allowed"
    )


def _parse(path: Path, text: bytes) -> dict[str, Entry]:
    try:
        header = json.loads(text)
        return {
            key: Entry(entry["dtype"], tuple(entry["shape"]), int(entry["data_offsets"][1]))
            for key, entry in header.items()
            if key != "__metadata__"
        }
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: the header is not that of a safetensors file; the file is damaged{AGAIN}"
        ) from error


def _check_size(path: Path, found: int, expected: int) -> None:
    if found < expected:
        raise WeightsError(
            f"{path}: the file is cut off, {found} of {expected} bytes are there{AGAIN}"
        )
    if found > expected:
        raise WeightsError(
            f"{path}: the file is {found} bytes long, its header describes {expected}{AGAIN}"
        )


def _check_structure(path: Path) -> None:
    """The format's own library has the last word: types, gaps, overlaps, keys given twice."""
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: the header contradicts itself ({error}); the file is damaged{AGAIN}"
        ) from error
