"""Read and write GLB containers (binary glTF 2.0).

Only what the exporters need: accessors that are not sparse, one buffer, embedded images.
"""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple

import numpy as np

from recon.errors import InputError

MAGIC, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963  # targets of buffer views
COMPONENT_TYPES = {"u1": 5121, "u2": 5123, "u4": 5125, "f4": 5126}
DTYPES = {code: np.dtype(f"<{name}") for name, code in COMPONENT_TYPES.items()}
TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
XYZW, WXYZ = [1, 2, 3, 0], [3, 0, 1, 2]  # orders of quaternions: glTF's, and back to ours
COMPONENTS = {name: count for count, name in TYPES.items()}


class GlbWriter:
    """Builder of a GLB.

    Attributes:
        json: the glTF document, to which callers add meshes, nodes and materials.
    """

    def __init__(self):
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "fourdvd"},
            "accessors": [],
            "bufferViews": [],
        }
        self._binary = bytearray()

    def accessor(
        self,
        values: np.ndarray,
        target: int | None = None,
        bounds: bool = False,
        name: str = "",
        normalized: bool = False,
    ) -> int:
        """Add an array and return the index of its accessor.

        Args:
            values: [N], [N, 2 to 4] or [N, 16] (matrices by columns) of uint8, uint16, uint32 or
                float32; a row of a vertex attribute must have a multiple of 4 bytes.
            target: `ARRAY_BUFFER` for vertex attributes, `ELEMENT_ARRAY_BUFFER` for indices.
            bounds: whether to store minimum and maximum, as glTF requires of positions and times.
            name: name of the accessor in the document.
            normalized: whether integers stand for numbers from 0 to 1.
        """
        entry: dict[str, Any] = {
            "bufferView": self.buffer_view(np.ascontiguousarray(values).tobytes(), target),
            "componentType": COMPONENT_TYPES[values.dtype.str[1:]],
            "count": len(values),
            "type": TYPES[1 if values.ndim == 1 else values.shape[1]],
        }
        if name:
            entry["name"] = name
        if normalized:
            entry["normalized"] = True
        if bounds:
            entry["min"] = np.atleast_1d(values.min(axis=0)).tolist()
            entry["max"] = np.atleast_1d(values.max(axis=0)).tolist()
        self.json["accessors"].append(entry)
        return len(self.json["accessors"]) - 1

    def buffer_view(self, data: bytes, target: int | None = None) -> int:
        """Add bytes, aligned to 4, and return the index of their buffer view."""
        entry = {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(data)}
        if target is not None:
            entry["target"] = target
        self._binary += data + bytes(-len(data) % 4)
        self.json["bufferViews"].append(entry)
        return len(self.json["bufferViews"]) - 1

    def glb(self) -> bytes:
        """Return the content of the GLB file."""
        document = self.json | {"buffers": [{"byteLength": len(self._binary)}]}
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        length = 12 + 8 + len(text) + 8 + len(self._binary)
        return b"".join(
            [
                struct.pack("<III", MAGIC, 2, length),
                struct.pack("<II", len(text), JSON_CHUNK),
                text,
                struct.pack("<II", len(self._binary), BINARY_CHUNK),
                bytes(self._binary),
            ]
        )


class Glb(NamedTuple):
    """A parsed GLB.

    Attributes:
        json: the glTF document.
        binary: content of its buffer.
    """

    json: dict[str, Any]
    binary: bytes

    def array(self, accessor: int) -> np.ndarray:
        """Return the values of an accessor, [N] or [N, components]; normalized ones in [0, 1]."""
        entry = self.json["accessors"][accessor]
        dtype, components = DTYPES[entry["componentType"]], COMPONENTS[entry["type"]]
        offset = self.json["bufferViews"][entry["bufferView"]].get("byteOffset", 0)
        offset += entry.get("byteOffset", 0)
        values = np.frombuffer(self.binary, dtype, entry["count"] * components, offset)
        if entry.get("normalized"):
            values = values / np.iinfo(dtype).max
        return values if components == 1 else values.reshape(-1, components)

    def view(self, index: int) -> bytes:
        """Return the bytes of a buffer view."""
        entry = self.json["bufferViews"][index]
        offset = entry.get("byteOffset", 0)
        return self.binary[offset : offset + entry["byteLength"]]


def read_glb(data: bytes) -> Glb:
    """Parse a GLB; inverse of `GlbWriter.glb`.

    Raises:
        InputError: The data is not a GLB 2.0 file with a JSON and a binary chunk.
    """
    try:
        magic, version, length = struct.unpack_from("<III", data)
        text_length, text_kind = struct.unpack_from("<II", data, 12)
        binary_length, binary_kind = struct.unpack_from("<II", data, 20 + text_length)
        document = json.loads(data[20 : 20 + text_length])
    except (struct.error, ValueError) as error:
        raise InputError(f"not a GLB file ({error})") from error
    if (magic, version, length) != (MAGIC, 2, len(data)):
        raise InputError(
            f"expected the header of a GLB 2.0 file of {len(data)} bytes, found version {version} "
            f"and {length} bytes; is the file truncated?"
        )
    if (text_kind, binary_kind) != (JSON_CHUNK, BINARY_CHUNK):
        raise InputError("expected a GLB with a JSON chunk followed by a binary chunk")
    binary = data[28 + text_length : 28 + text_length + binary_length]
    return Glb(document, binary)
