"""Reads a glTF 2.0 file for inspection: container, JSON document, buffers and accessors.

Buffers are memory-mapped, and nothing is read until it is needed. References must stay in the
file's own folder; symbolic links there are followed, because content-addressed stores link to their
files. A message names the place in the document, e.g. `nodes[1].mesh`.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeGuard, TypeVar
from urllib.parse import unquote

import numpy as np

from generation.curation.assets.limits import AssetError, Limits, Reason, require

READABLE_EXTENSIONS = frozenset(  # those that Blender 5.0 imports
    {
        "EXT_mesh_gpu_instancing", "EXT_texture_webp", "KHR_animation_pointer",
        "KHR_draco_mesh_compression", "KHR_lights_punctual", "KHR_materials_anisotropy",
        "KHR_materials_clearcoat", "KHR_materials_emissive_strength", "KHR_materials_ior",
        "KHR_materials_pbrSpecularGlossiness", "KHR_materials_sheen", "KHR_materials_specular",
        "KHR_materials_transmission", "KHR_materials_unlit", "KHR_materials_variants",
        "KHR_materials_volume", "KHR_mesh_quantization", "KHR_texture_transform",
    }
)  # fmt: skip
_DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}

Item = TypeVar("Item")


class View(NamedTuple):
    """A buffer view: its bytes, uint8, and the stride of its elements, 0 if tightly packed."""

    data: np.ndarray
    stride: int


@dataclass(frozen=True, eq=False)
class Accessor:
    """A typed array [count, components]: `data` or zeros; if sparse, with some values replaced."""

    place: str
    count: int
    components: int
    dtype: np.dtype
    data: np.ndarray | None
    replaced: tuple[np.ndarray, np.ndarray] | None

    @cached_property
    def is_finite(self) -> bool:
        """Whether all stored elements are finite; cached, as many channels may share them."""
        parts = (self.data, None if self.replaced is None else self.replaced[1])
        return self.dtype.kind != "f" or all(
            part is None or bool(np.isfinite(part).all()) for part in parts
        )

    @cached_property
    def duration(self) -> float | None:
        """Last minus first number of a list of times; None unless they strictly ascend."""
        times = np.zeros(self.count, self.dtype)
        if self.data is not None:
            times[:] = self.data[:, 0]
        if self.replaced is not None:
            times[self.replaced[0]] = self.replaced[1][:, 0]
        if not (np.diff(times) > 0).all():
            return None
        return float(times[-1]) - float(times[0]) if self.count else 0.0

    def require_finite(self, what: str) -> None:
        """Raise AssetError if an element is not finite."""
        message = f"{what} ({self.place}) has non-finite numbers"
        require(self.is_finite, Reason.not_finite, message)


class GltfFile(NamedTuple):
    """An opened file: its document, buffer views and accessors."""

    document: Entry
    views: list[View]
    accessors: list[Accessor]


def open_gltf(path: Path, limits: Limits) -> GltfFile:
    """Open a .glb or .gltf file and check that its arrays lie within its buffers.

    Raises:
        AssetError: the file is refused.
    """
    data = np.memmap(path, dtype=np.uint8, mode="r")
    text, binary = _container(data)
    require(
        len(text) <= limits.document_bytes, Reason.too_large,
        f"its JSON has {len(text):,} bytes, more than {limits.document_bytes:,}",
    )  # fmt: skip
    document = _parse(text.tobytes())
    buffers = _buffers(document, binary, path.parent, limits.file_bytes - len(data))
    _check_extensions(document)
    views = [_view(entry, buffers) for entry in document.entries("bufferViews")]
    accessors = [_accessor(entry, views) for entry in document.entries("accessors")]
    size = sum(each.count * each.components * each.dtype.itemsize for each in accessors)
    require(
        size <= limits.file_bytes, Reason.too_large,
        f"its accessors hold {size:,} bytes when read, more than {limits.file_bytes:,}",
    )  # fmt: skip
    return GltfFile(document, views, accessors)


class Entry:
    """A JSON object of the document and its place; null counts as absent, as in Blender."""

    def __init__(self, fields: Any, place: str):
        self.place = place
        if not isinstance(fields, dict):
            self._refuse(None, "an object", fields)
        self.fields: dict[str, Any] = fields

    def integer(self, key: str, default: int | None = None) -> int:
        """A non-negative integer; refused if absent without a default."""
        value = self.fields.get(key)
        value = default if value is None else value
        return value if _is_natural(value) else self._refuse(key, "a non-negative integer", value)

    def index(self, key: str, table: Sequence[Any], value: Any = None) -> int | None:
        """An index into a table; None if absent."""
        value = self.fields.get(key) if value is None else value
        if value is None or (_is_natural(value) and value < len(table)):
            return value
        return self._refuse(key, f"an index below {len(table)}", value)

    def item(self, key: str, table: Sequence[Item]) -> Item:
        """The item of a table that an index names; refused if absent."""
        index = self.index(key, table)
        return self._refuse(key, "an index", None) if index is None else table[index]

    def indices(self, key: str, table: Sequence[Any]) -> list[int]:
        """A list of indices into a table; empty if absent."""
        found = [self.index(key, table, value) for value in self._list(key) if value is not None]
        return [index for index in found if index is not None]

    def text(self, key: str) -> str | None:
        """A string; None if absent."""
        value = self.fields.get(key)
        return value if isinstance(value, str | None) else self._refuse(key, "a string", value)

    def texts(self, key: str) -> list[str]:
        """A list of strings; empty if absent."""
        values = self._list(key)
        strings = all(isinstance(value, str) for value in values)
        return values if strings else self._refuse(key, "strings", values)

    def check_numbers(self, key: str, count: int) -> None:
        """Raise AssetError unless a field is absent, empty or so many finite numbers."""
        values = self._list(key)
        if values and not (len(values) == count and all(type(v) in (int, float) for v in values)):
            self._refuse(key, f"{count} numbers", values)
        finite = all(abs(value) <= sys.float_info.max for value in values)  # integers are unbounded
        require(finite, Reason.not_finite, f"{self.place}.{key} is not finite")

    def entry(self, key: str) -> Entry | None:
        """An object; None if absent."""
        value = self.fields.get(key)
        return None if value is None else Entry(value, f"{self.place}.{key}")

    def entries(self, key: str) -> list[Entry]:
        """A list of objects; empty if absent."""
        place = f"{self.place}.{key}" if self.place else key
        return [Entry(value, f"{place}[{i}]") for i, value in enumerate(self._list(key))]

    def _list(self, key: str) -> list[Any]:
        value = self.fields.get(key)
        value = [] if value is None else value
        return value if isinstance(value, list) else self._refuse(key, "a list", value)

    def _refuse(self, key: str | None, expected: str, found: Any) -> NoReturn:
        place = ".".join(part for part in (self.place, key) if part) or "the document"
        shown = repr(found)[:40] if isinstance(found, str | int | float) else type(found).__name__
        raise AssetError(Reason.malformed, f"{place}: expected {expected}, found {shown}")


def _is_natural(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0  # a bool is an int to isinstance


def _container(data: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The JSON and the binary chunk, if any; like Blender, goes by content, not by suffix."""
    if data[:4].tobytes() != b"glTF":
        is_text = data[:64].tobytes().lstrip()[:1] == b"{"
        require(is_text, Reason.wrong_format, "neither a GLB container nor the JSON of a glTF file")
        return data, None
    require(len(data) >= 20, Reason.truncated, "it ends before its first chunk")
    version, length = struct.unpack("<II", data[4:12].tobytes())
    require(version == 2, Reason.unsupported, f"expected GLB version 2, found {version}")
    sizes = f"it has {len(data):,} bytes, its header declares {length:,}"
    require(length <= len(data), Reason.truncated, sizes)
    require(length == len(data), Reason.malformed, sizes)
    chunks = []
    end = 12
    while end < len(data) and len(chunks) < 2:
        require(end + 8 <= len(data), Reason.malformed, f"the chunk at byte {end} has no header")
        length, kind = struct.unpack("<I4s", data[end : end + 8].tobytes())
        start, end = end + 8, end + 8 + length
        require(end <= len(data), Reason.malformed, f"a chunk ends at {end:,}, after the file")
        require(bool(chunks) or kind == b"JSON", Reason.malformed, "its first chunk is not JSON")
        chunks.append((kind, data[start:end]))
    binary = chunks[1][1] if len(chunks) > 1 and chunks[1][0] == b"BIN\0" else None
    return chunks[0][1], binary


def _check_extensions(document: Entry) -> None:
    required = set(document.texts("extensionsRequired"))
    unreadable = ", ".join(sorted(required - READABLE_EXTENSIONS))[:200]
    require(not unreadable, Reason.unsupported, f"Blender lacks its required {unreadable}")
    declared = required <= set(document.texts("extensionsUsed"))
    require(declared, Reason.malformed, "a required extension is not listed as used")


def _parse(data: bytes) -> Entry:
    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is not valid JSON")

    try:
        document = Entry(json.loads(str(data, encoding="utf-8"), parse_constant=refuse), "")
    except (ValueError, RecursionError) as error:
        raise AssetError(Reason.malformed, f"its JSON cannot be parsed: {error}") from error
    asset = document.entry("asset")
    version = None if asset is None else asset.text("version")
    require(version == "2.0", Reason.unsupported, f"expected glTF version 2.0, found {version}")
    return document


def _buffers(
    document: Entry, binary: np.ndarray | None, folder: Path, budget: int
) -> list[np.ndarray]:
    """Map all buffers, uint8; those outside of the file have at most `budget` bytes together."""
    buffers = []
    for number, entry in enumerate(document.entries("buffers")):
        length, uri = entry.integer("byteLength"), entry.text("uri")
        data = binary if uri is None and number == 0 else None
        if uri is not None:
            embedded, file = data_uri(uri), None
            if embedded is None and (file := local_file(uri, folder)) is not None:
                size = file.stat().st_size
                require(size <= budget, Reason.too_large, f"buffer {file.name} has {size:,} bytes")
                data = np.memmap(file, np.uint8, "r") if size else np.empty(0, np.uint8)
            elif embedded is not None:
                data = np.frombuffer(embedded, np.uint8)
            budget -= 0 if data is None else len(data)
        found = f"{entry.place} is missing: {(uri or 'no URI')[:200]}"
        require(data is not None, Reason.missing_buffer, found)
        assert data is not None
        found = f"{entry.place} has {len(data):,} of {length:,} bytes"
        require(len(data) >= length, Reason.truncated, found)
        buffers.append(data)
    return buffers


def data_uri(uri: str) -> bytes | None:
    """Decode a base64 data URI, the only kind that Blender reads; None for another URI."""
    head, separator, text = uri.partition(";base64,")
    if not uri.startswith("data:") or not separator:
        return None
    try:
        return base64.b64decode(text)
    except ValueError as error:
        raise AssetError(Reason.malformed, f"invalid base64 in {head[:80]!r}: {error}") from error


def local_file(uri: str, folder: Path) -> Path | None:
    """Resolve a percent-encoded relative URI; None if there is no such file, or on the network."""
    name = unquote(uri)
    if not name or re.match(r"[a-zA-Z][\w+.-]+:", name):
        return None
    parts = re.split(r"[/\\]", name)
    outside = parts[0] == "" or parts[0].endswith(":") or ".." in parts  # C: is a Windows drive
    require(not outside, Reason.outside_folder, f"{name[:200]!r} is not in its own folder")
    try:
        return folder / name if (folder / name).is_file() else None
    except (OSError, ValueError):  # not a valid name for the file system
        return None


def _view(entry: Entry, buffers: list[np.ndarray]) -> View:
    buffer = entry.item("buffer", buffers)
    start, length = entry.integer("byteOffset", 0), entry.integer("byteLength")
    end = start + length
    require(
        end <= len(buffer), Reason.malformed, f"{entry.place} ends after its buffer, at {end:,}"
    )
    return View(buffer[start:end], entry.integer("byteStride", 0))


def _accessor(entry: Entry, views: list[View]) -> Accessor:
    code, kind = entry.integer("componentType"), entry.text("type")
    if code not in _DTYPES or kind not in _COMPONENTS:
        raise AssetError(Reason.malformed, f"{entry.place} has the unknown type {code}, {kind!r}")
    dtype, components, count = np.dtype(_DTYPES[code]), _COMPONENTS[kind], entry.integer("count")
    data = _elements(entry, views, count, components, dtype)
    sparse = entry.entry("sparse")
    if sparse is None:
        return Accessor(entry.place, count, components, dtype, data, None)
    replaced, where, what = sparse.integer("count"), sparse.entry("indices"), sparse.entry("values")
    code = -1 if where is None else where.integer("componentType")
    if where is None or what is None or code not in (5121, 5123, 5125):
        raise AssetError(Reason.malformed, f"{sparse.place} has no indices or values")
    places = _elements(where, views, replaced, 1, np.dtype(_DTYPES[code]))
    values = _elements(what, views, replaced, components, dtype)
    if places is None or values is None or (replaced and int(places.max()) >= count):
        raise AssetError(Reason.malformed, f"{sparse.place} replaces elements that do not exist")
    return Accessor(entry.place, count, components, dtype, data, (places[:, 0], values))


def _elements(
    entry: Entry, views: list[View], count: int, components: int, dtype: np.dtype
) -> np.ndarray | None:
    """The elements [count, components] in a buffer view, not copied; None without a view."""
    index = entry.index("bufferView", views)
    if index is None:
        return None
    view, start = views[index], entry.integer("byteOffset", 0)
    size = components * dtype.itemsize
    stride = view.stride or size
    end = start + stride * (count - 1) + size if count else start
    fits = stride >= size and stride % dtype.itemsize == 0 and end <= len(view.data)
    require(fits, Reason.malformed, f"{entry.place} does not lie within bufferViews[{index}]")
    data = view.data[start:]
    return np.ndarray((count, components), dtype, data, strides=(stride, dtype.itemsize))
