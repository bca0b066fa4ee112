"""Opens a .glb or .gltf file: its JSON document and the buffers that belong to it.

Buffers are mapped, not read. A file may refer only to its own folder and what is below it; links
there are followed, because stores of files keep them under their hashes. What it does not know:
what the document and the buffers mean.
"""

from __future__ import annotations

import base64
import re
import struct
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np

from generation.curation.inspection.findings import AssetError, Limits, Reason
from generation.curation.inspection.gltf_document import Entry, parse_document


class GltfFile(NamedTuple):
    """An opened file.

    Attributes:
        document: its JSON.
        buffers: uint8, one for each of the document's buffers, in which at least as many bytes as
            the document says are there.
    """

    document: Entry
    buffers: list[np.ndarray]


def open_gltf(path: Path, limits: Limits) -> GltfFile:
    """Opens a binary or a text file, told apart by how they begin, as Blender does.

    Raises:
        AssetError: see `Reason`.
    """
    data = np.memmap(path, dtype=np.uint8, mode="r")
    if data[:4].tobytes() == b"glTF":
        text, binary = _glb_chunks(data)
    elif data[:64].tobytes().lstrip()[:1] == b"{":
        text, binary = data, None
    else:
        raise AssetError(Reason.wrong_format, "neither a GLB container nor the JSON of a glTF file")
    if len(text) > limits.document_bytes:
        raise AssetError(
            Reason.too_large,
            f"its JSON has {len(text):,} bytes, more than {limits.document_bytes:,}; "
            "buffers belong into a .bin or .glb file",
        )
    document = parse_document(text.tobytes())
    budget = limits.file_bytes - len(data)
    buffers = []
    for number, entry in enumerate(document.entries("buffers")):
        first = binary if number == 0 else None
        buffers.append(_buffer(entry, first, path.parent, budget))
        if buffers[-1] is not first:
            budget -= len(buffers[-1])
    return GltfFile(document, buffers)


def local_file(uri: str, folder: Path) -> Path | None:
    """The file of a URI of a glTF file; None if there is none, or the URI is on the network.

    Args:
        uri: relative, percent-encoded.
        folder: of the glTF file.

    Raises:
        AssetError: the URI leads out of the folder.
    """
    name = unquote(uri)
    if not name or re.match(r"[a-zA-Z][\w+.-]+:", name):
        return None
    parts = re.split(r"[/\\]", name)
    if parts[0] == "" or parts[0].endswith(":") or ".." in parts:  # C: is a disk of Windows
        raise AssetError(
            Reason.outside_folder, f"it refers to {name[:200]!r}, which is not in its own folder"
        )
    path = folder / name
    try:
        return path if path.is_file() else None
    except (OSError, ValueError):  # no name that the file system knows
        return None


def data_uri(uri: str) -> bytes | None:
    """The bytes in a base64 data URI, the only kind that Blender reads; None if it is none.

    Raises:
        AssetError: the base64 is broken.
    """
    head, separator, text = uri.partition(";base64,")
    if not uri.startswith("data:") or not separator:
        return None
    try:
        return base64.b64decode(text)
    except ValueError as error:
        raise AssetError(Reason.malformed, f"broken base64 after {head[:80]!r}: {error}") from error


def _glb_chunks(data: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The JSON chunk, and the binary one if there is one."""
    if len(data) < 20:
        raise AssetError(Reason.truncated, f"its {len(data)} bytes end before the first chunk")
    version, length = struct.unpack("<II", data[4:12].tobytes())
    if version != 2:
        raise AssetError(Reason.unsupported, f"expected GLB version 2, found {version}")
    if length > len(data):
        raise AssetError(
            Reason.truncated, f"it has {len(data):,} bytes of the {length:,} that its header tells"
        )
    if length < len(data):
        raise AssetError(
            Reason.malformed, f"it has {len(data):,} bytes where its header tells {length:,}"
        )
    kind, text, end = _glb_chunk(data, 12)
    if kind != b"JSON":
        raise AssetError(Reason.malformed, f"its first chunk is {kind!r}; expected b'JSON'")
    if end == len(data):
        return text, None
    kind, binary, _ = _glb_chunk(data, end)
    return text, binary if kind == b"BIN\0" else None


def _glb_chunk(data: np.ndarray, start: int) -> tuple[bytes, np.ndarray, int]:
    """Kind and bytes of the chunk at a place, and where the next one begins."""
    if start + 8 > len(data):
        raise AssetError(Reason.malformed, f"the chunk at byte {start} has no header")
    length, kind = struct.unpack("<I4s", data[start : start + 8].tobytes())
    end = start + 8 + length
    if end > len(data):
        raise AssetError(
            Reason.malformed, f"the chunk at byte {start} ends at {end:,}, after the file's end"
        )
    return kind, data[start + 8 : end], end


def _buffer(entry: Entry, binary: np.ndarray | None, folder: Path, budget: int) -> np.ndarray:
    """The bytes of a buffer, in a chunk, a data URI or a file of at most `budget` bytes."""
    length = entry.integer("byteLength")
    uri = entry.text("uri")
    found = binary if uri is None else _buffer_of_uri(uri, folder, budget)
    if found is None:
        raise AssetError(
            Reason.missing_buffer, f"{entry.place} is not there: {(uri or 'no URI')[:200]}"
        )
    if len(found) < length:
        raise AssetError(Reason.truncated, f"{entry.place} has {len(found):,} of {length:,} bytes")
    return found


def _buffer_of_uri(uri: str, folder: Path, budget: int) -> np.ndarray | None:
    data = data_uri(uri)
    if data is not None:
        return np.frombuffer(data, dtype=np.uint8)
    path = local_file(uri, folder)
    if path is None:
        return None
    size = path.stat().st_size
    if size > budget:
        raise AssetError(Reason.too_large, f"its buffer {path.name} has {size:,} bytes, too many")
    return np.memmap(path, dtype=np.uint8, mode="r") if size else np.empty(0, np.uint8)
