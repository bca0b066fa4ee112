"""Inspection of glTF 2.0 files; a broken one raises AssetError, ValueError or a parser's error.

References must stay in the file's own folder; symbolic links in it are followed, because
content-addressed stores link to their files.
"""

from __future__ import annotations

import base64
import json
import os.path
import re
import struct
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np

from generation.curation.assets.images import HEADER_BYTES, Size, check_images, image_size
from generation.curation.assets.limits import Inspection, Limits, Reason, limit, require

READABLE_EXTENSIONS = {  # those that Blender 5.0 imports
    "EXT_mesh_gpu_instancing", "EXT_texture_webp", "KHR_animation_pointer",
    "KHR_draco_mesh_compression", "KHR_lights_punctual", "KHR_materials_anisotropy",
    "KHR_materials_clearcoat", "KHR_materials_emissive_strength", "KHR_materials_ior",
    "KHR_materials_pbrSpecularGlossiness", "KHR_materials_sheen", "KHR_materials_specular",
    "KHR_materials_transmission", "KHR_materials_unlit", "KHR_materials_variants",
    "KHR_materials_volume", "KHR_mesh_quantization", "KHR_texture_transform",
}  # fmt: skip
MAX_DEPTH = 900  # Blender's importer recurses for each level, and Python stops at 1000
_SCALARS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_LENGTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_PATHS = ("translation", "rotation", "scale", "weights")

# Schemas of `_Gltf.read`
_PART = {"bufferView!": "bufferViews", "byteOffset": int}
_POSITION = {"POSITION": "accessors"}
_SAMPLER = {"input!": "accessors", "output!": "accessors", "interpolation": str}
_INSTANCES = {"extensions": {"EXT_mesh_gpu_instancing": {"attributes": dict}}}
_CHANNEL = {"sampler!": int, "target!": {"path!": str, "node": "nodes"}}
_TABLES: dict[str, Any] = {
    "asset": {"version": str}, "extensionsRequired": [str], "extensionsUsed": [str],
    "buffers": [{"byteLength!": int, "uri": str}],
    "bufferViews": [
        {"buffer!": "buffers", "byteLength!": int, "byteOffset": int, "byteStride": int}],
    "accessors": [{
        "componentType!": tuple(_SCALARS), "type!": tuple(_LENGTHS), "count!": int,
        "bufferView": "bufferViews", "sparse": {"count!": int,
            "indices!": {"componentType!": (5121, 5123, 5125), **_PART}, "values!": _PART}}],
    "meshes": [{"primitives": [{
        "attributes": _POSITION, "targets": [_POSITION], "indices": "accessors", "mode": int}]}],
    "nodes": [{
        "children": ["nodes"], "mesh": "meshes", "matrix": [float, 16],
        "translation": [float, 3], "rotation": [float, 4], "scale": [float, 3]}],
    "animations": [{"name": str, "samplers": [dict], "channels": [_CHANNEL]}],
    "skins": [{"joints": ["nodes"], "inverseBindMatrices": "accessors"}],
    "images": [{"bufferView": "bufferViews", "uri": str, "name": str}],
}  # fmt: skip


def inspect_gltf(path: Path, limits: Limits, animated: bool = True) -> Inspection:
    """Inspect a .glb or .gltf file; see `inspection.inspect`."""
    gltf = _Gltf(path, limits)
    triangles = gltf.count_triangles()
    require(triangles > 0, "no node shows a mesh with triangles", Reason.no_triangles)
    limit("triangles", triangles, limits.triangles, Reason.too_many_triangles)
    entries = gltf.table("animations")
    names = [entry["name"] or f"Anim_{n}" for n, entry in enumerate(entries)]  # as in Blender
    names = tuple(n for n, entry in zip(names, entries, strict=True) if gltf.seconds(n, entry) > 0)
    found = bool(names) or not animated
    require(found, "no animation has a channel with two keyframes", Reason.no_animation)
    gltf.check_shapes()
    return Inspection(triangles, names, gltf.missing_images())


class _Accessor(NamedTuple):
    """Elements of a type, [count]: zeros, or the values that `parts` has for some places."""

    type: np.dtype
    length: int
    parts: list[tuple[Any, np.ndarray]]


class _Gltf:
    """A file: its document, its buffer views and its accessors."""

    def __init__(self, path: Path, limits: Limits):
        self.folder, self.limits, data = path.parent, limits, np.memmap(path, np.uint8, "r")
        text, binary = _container(data)
        limit("bytes of JSON", len(text), limits.document_bytes)
        self.document = json.loads(text.tobytes().decode(), parse_constant=int)  # refuses NaN
        self.read(self.document, dict, "the document")
        version = self.table("asset").get("version")
        require(version == "2.0", f"glTF {version} is not supported", Reason.unsupported)
        buffers = self.buffers(binary, limits.file_bytes - len(data))
        required = set(self.table("extensionsRequired"))
        unreadable = ", ".join(sorted(required - READABLE_EXTENSIONS))[:200]
        require(not unreadable, f"Blender lacks its required {unreadable}", Reason.unsupported)
        require(
            required <= set(self.table("extensionsUsed")), "extensionsUsed lacks a required one"
        )
        self.views: list[tuple[np.ndarray, int]] = []  # bytes, and stride if not packed
        for number, view in enumerate(self.table("bufferViews")):
            start, buffer = view["byteOffset"] or 0, buffers[view["buffer"]]
            end = start + view["byteLength"]
            require(end <= len(buffer), f"bufferViews[{number}] ends after its buffer")
            self.views.append((buffer[start:end], view["byteStride"] or 0))
        entries = zip(self.table("accessors"), self.document.get("accessors") or (), strict=True)
        self.accessors = [self.accessor(*both) for both in entries]
        size = sum(each.length * each.type.itemsize for each in self.accessors)
        limit("bytes of its accessors", size, limits.file_bytes)
        self.is_finite = cache(self.is_finite)  # many channels may share an accessor
        self.duration = cache(self.duration)

    def table(self, name: str) -> Any:
        return self.read(self.document.get(name), _TABLES[name], name, optional=True)

    def read(self, value: Any, schema: Any, place: str, optional: bool = False) -> Any:
        """Return what a schema names of a value; raise AssetError where they differ.

        A schema is a type (finite numbers, integers from 0), a tuple of values, `{key: schema}`,
        `[schema]`, `[schema, length]`, or the table into which the value is an index. Null counts
        as absent, as in Blender: as empty or None, but where a key ends in `!`.
        """
        if optional and value is None:
            return type(schema)() if isinstance(schema, list | dict) else None
        if isinstance(schema, str):
            table = self.document.get(schema)
            schema = range(len(table) if isinstance(table, list) else 0)
        kind = schema if isinstance(schema, type) else type(schema)
        types = {float: (int, float), tuple: (int, str), range: (int,)}.get(kind, (kind,))
        valid = type(value) in types and not (kind is int and value < 0)
        if not valid or (kind in (tuple, range) and value not in schema):
            expected = schema if kind in (tuple, range) else kind.__name__
            require(False, f"{place}: expected {expected}, found {value!r:.40}")
        if kind is float:  # integers are unbounded
            require(abs(value) <= sys.float_info.max, f"{place} is not finite", Reason.not_finite)
        if isinstance(schema, dict):
            parts = [(key.removesuffix("!"), key, part) for key, part in schema.items()]
            return {k: self.read(value.get(k), v, f"{place}.{k}", k == key) for k, key, v in parts}
        if isinstance(schema, list):
            part, *length = schema
            require(not length or len(value) in (0, *length), f"{place} has not {length} items")
            skip = isinstance(part, str)
            items = [self.read(v, part, f"{place}[{i}]", skip) for i, v in enumerate(value)]
            return [item for item in items if item is not None]
        return value

    def load(self, uri: str) -> np.ndarray | None:
        """Decode a base64 data URI or map the file of a relative one, uint8; None for others."""
        if embedded := re.match("data:.*?;base64,(.*)", uri, re.DOTALL):
            return np.frombuffer(base64.b64decode(embedded[1]), np.uint8)
        name = unquote(uri)
        if not name or re.match(r"[a-zA-Z][\w+.-]+:", name):
            return None
        parts = re.split(r"[/\\]", name)
        outside = parts[0] == "" or parts[0].endswith(":") or ".." in parts  # C: is a drive
        require(not outside, f"{name[:200]!r} is not in its own folder", Reason.outside_folder)
        file = self.folder / name
        if not os.path.isfile(file):  # noqa: PTH113 (pathlib raises for names that are too long)
            return None
        return np.memmap(file, np.uint8, "r") if file.stat().st_size else np.empty(0, np.uint8)

    def buffers(self, binary: np.ndarray | None, budget: int) -> list[np.ndarray]:
        """Map the buffers, uint8; those outside of the file have at most `budget` bytes."""
        buffers = []
        for number, entry in enumerate(self.table("buffers")):
            place, uri, size = f"buffers[{number}]", entry["uri"], entry["byteLength"]
            data: Any = self.load(uri) if uri is not None else None if number else binary
            require(data is not None, f"{place} is missing: {uri!s:.200}", Reason.missing_buffer)
            if uri is not None:
                limit(f"bytes of {place}", 0 if uri.startswith("data:") else len(data), budget)
                budget -= len(data)
            require(len(data) >= size, f"{place} has {len(data):,} bytes", Reason.truncated)
            buffers.append(data)
        return buffers

    def accessor(self, entry: dict[str, Any], whole: dict[str, Any]) -> _Accessor:
        scalar, count, sparse = _SCALARS[entry["componentType"]], entry["count"], entry["sparse"]
        found = _Accessor(np.dtype((scalar, (_LENGTHS[entry["type"]],))), count, [])
        if entry["bufferView"] is not None:
            part = self.read(whole, _PART, "accessors")  # without a view, its offset is ignored
            found.parts.append((slice(None), self.elements(part, found.type, count)))
        if sparse:
            kind = np.dtype((_SCALARS[sparse["indices"]["componentType"]], (1,)))
            places = self.elements(sparse["indices"], kind, sparse["count"])[:, 0]
            require(bool((places < count).all()), "an accessor replaces elements that do not exist")
            found.parts.append((places, self.elements(sparse["values"], found.type, len(places))))
        return found

    def elements(self, part: dict[str, Any], kind: np.dtype, count: int) -> np.ndarray:
        """View elements in a part of a buffer view, [count, components]."""
        (view, stride), start = self.views[part["bufferView"]], part["byteOffset"] or 0
        stride = stride or kind.itemsize
        end = start + (stride * (count - 1) + kind.itemsize if count else 0)  # numpy may not check
        fits = (
            end <= len(view)
            and kind.itemsize <= stride < 2**63
            and stride % kind.base.itemsize == 0
        )
        require(fits, "an accessor does not lie within its buffer view")
        return np.ndarray(count, kind, view[start:], strides=(stride,))

    def is_finite(self, index: int) -> bool:
        return all(np.isfinite(values).all() for _, values in self.accessors[index].parts)

    def duration(self, index: int) -> float | None:
        """Last minus first number of a list of times; None unless they strictly ascend."""
        times = np.zeros(self.accessors[index].length, self.accessors[index].type)
        for places, values in self.accessors[index].parts:
            times[places] = values
        ascends = bool((np.diff(times, axis=0) > 0).all())
        return float(times[-1:].sum()) - float(times[:1].sum()) if ascends else None

    def count_triangles(self) -> int:
        """Count the triangles of all meshes, once for each node and instance that shows them."""
        meshes = [sum(map(self.triangles, mesh["primitives"])) for mesh in self.table("meshes")]
        nodes, total = self.table("nodes"), 0
        _check_tree([node["children"] for node in nodes])
        for number, mesh in ((i, node["mesh"]) for i, node in enumerate(nodes)):
            if mesh is not None:
                place, node = f"nodes[{number}]", self.document["nodes"][number]
                extensions = self.read(node, _INSTANCES, place)["extensions"]
                keys = extensions.get("EXT_mesh_gpu_instancing", {}).get("attributes") or {}
                indices = self.read(keys, {f"{key}!": "accessors" for key in keys}, place).values()
                instances = [self.accessors[index].length for index in indices]
                total += meshes[mesh] * max(instances, default=1)
        return total

    def triangles(self, primitive: dict[str, Any]) -> int:
        position, indices = primitive["attributes"].get("POSITION"), primitive["indices"]
        if position is None:  # Blender ignores it
            return 0
        count = self.accessors[position if indices is None else indices].length
        strip, list_ = max(count - 2, 0), count // 3
        return {None: list_, 4: list_, 5: strip, 6: strip}.get(primitive["mode"], 0)

    def seconds(self, name: str, animation: dict[str, Any]) -> float:
        """Seconds from the first to the last keyframe of the longest channel that has a target."""
        place, samplers, longest = f"animation {name!r}", animation["samplers"], 0.0
        for channel in animation["channels"]:
            target, index = channel["target"], channel["sampler"]
            require(index < len(samplers), f"{place} has no sampler {index}")
            moves = target["node"] is not None and target["path"] in _PATHS
            if not moves and target["path"] != "pointer":
                continue  # the specification lets readers ignore it, and Blender does
            sampler = self.read(samplers[index], _SAMPLER, f"{place}, samplers[{index}]")
            times, values = (self.accessors[sampler[key]] for key in ("input", "output"))
            keys = times.length * (
                3 if sampler["interpolation"] == "CUBICSPLINE" else 1
            )  # tangents
            matches = values.length >= keys and not (keys and values.length % keys)
            matches = matches and times.type == np.dtype(("<f4", (1,)))
            require(matches, f"{place}: {values.length} values for {times.length} keyframes")
            finite = self.is_finite(sampler["input"]) and self.is_finite(sampler["output"])
            require(finite, f"keyframes of {place} are not finite", Reason.not_finite)
            if (duration := self.duration(sampler["input"])) is None:
                require(False, f"times of {place} do not ascend", Reason.unordered_keyframes)
            longest = max(longest, duration or 0.0)
        return longest

    def check_shapes(self) -> None:
        """Check skins, and that positions, morph targets and bind matrices are finite."""
        indices = []
        for skin in self.table("skins"):
            joints, index = len(skin["joints"]), skin["inverseBindMatrices"]
            matrices = joints if index is None else self.accessors[index].length
            require(0 < joints <= matrices, f"{joints} joints have {matrices} bind matrices")
            indices.append(index)
        self.read(self.document["nodes"], [{"skin": "skins"}], "nodes")
        for primitive in (each for mesh in self.table("meshes") for each in mesh["primitives"]):
            shapes = [primitive["attributes"], *primitive["targets"]]
            indices += [shape.get("POSITION") for shape in shapes]
        for index in (index for index in indices if index is not None):
            require(self.is_finite(index), f"accessors[{index}] is not finite", Reason.not_finite)

    def missing_images(self) -> tuple[str, ...]:
        """Check the images, and return the names of those that are missing or unreadable."""
        images = self.table("images")
        sizes = [len(self.views[view][0]) for i in images if (view := i["bufferView"]) is not None]
        limit("bytes of its images", sum(sizes), self.limits.file_bytes)

        @cache  # many images may share their bytes
        def size(uri: str | None, view: int | None) -> Size | None:
            data = None if view is None else self.views[view][0]
            data = data if uri is None else self.load(uri)
            return None if data is None else image_size(data[:HEADER_BYTES].tobytes())

        found = []
        for number, image in enumerate(images):
            uri, name = image["uri"], image["name"] or f"images[{number}]"
            name = name if uri is None or uri.startswith("data:") else uri[:200]
            found.append((name, size(uri, image["bufferView"])))
        check_images(found, self.limits)
        return tuple(name for name, size in found if size is None)


def _container(data: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The JSON and the binary chunk, if any; like Blender, goes by content, not by suffix."""
    if data[:4].tobytes() != b"glTF":
        text = data[:64].tobytes().lstrip()
        require(text.startswith(b"{"), "neither GLB nor JSON", Reason.wrong_format)
        return data, None
    require(len(data) >= 20, "it ends before its first chunk", Reason.truncated)
    version, length = struct.unpack("<II", data[4:12].tobytes())
    require(version == 2, f"GLB version {version} is not supported", Reason.unsupported)
    reason = Reason.truncated if length > len(data) else Reason.malformed
    require(length == len(data), f"it has {len(data):,} bytes and declares {length:,}", reason)
    chunks, end = [], 12
    while end < len(data) and len(chunks) < 2:
        length, kind = struct.unpack("<I4s", data[end : end + 8].tobytes())
        start, end = end + 8, end + 8 + length
        require(end <= len(data), f"a chunk ends at {end:,}, after the file")
        chunks.append((kind, data[start:end]))
    require(chunks[0][0] == b"JSON", "its first chunk is not JSON")
    return chunks[0][1], next((chunk for kind, chunk in chunks[1:] if kind == b"BIN\0"), None)


def _check_tree(children: list[list[int]]) -> None:
    """Check that the nodes form trees of a depth that Blender can import."""
    below = [child for each in children for child in each]
    require(len(below) == len(set(below)), "a node has two parents")
    level, reached, depth = set(range(len(children))) - set(below), 0, 0
    while level:
        reached, depth = reached + len(level), depth + 1
        level = [child for index in level for child in children[index]]
    require(reached == len(children), "some nodes are their own ancestors")
    require(depth <= MAX_DEPTH, f"its nodes are nested {depth:,} deep", Reason.unsupported)
