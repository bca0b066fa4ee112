"""Small animated assets made from nothing: GLB and glTF files of boxes, OBJ sequences, PNG headers.

A box has 24 vertices and 12 triangles. Times are seconds, lengths metres, axes those of glTF (+Y
up). `edited` breaks a finished GLB in the way a test needs; the options here are the frequent ones.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Document = dict[str, Any]

TIMES = (0.0, 0.5, 1.0)
FLOAT, USHORT, UBYTE = 5126, 5123, 5121
_COMPONENTS = {np.dtype("<f4"): FLOAT, np.dtype("<u2"): USHORT, np.dtype("u1"): UBYTE}


class GltfBuilder:
    """A glTF document and the one buffer behind it, grown piece by piece."""

    def __init__(self) -> None:
        self.document: Document = {
            "asset": {"version": "2.0", "generator": "tiny_assets"},
            "scene": 0,
            "scenes": [{"nodes": []}],
            "nodes": [],
            "meshes": [],
            "materials": [],
            "accessors": [],
            "bufferViews": [],
            "buffers": [{"byteLength": 0}],
        }
        self.binary = b""

    def view(self, data: bytes) -> int:
        """Index of a new buffer view over some bytes."""
        self.binary += bytes(-len(self.binary) % 4)
        entry = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)}
        self.binary += data
        self.document["buffers"][0]["byteLength"] = len(self.binary)
        return self.add("bufferViews", entry)

    def accessor(self, values: np.ndarray, kind: str) -> int:
        """Index of a new accessor; kind is SCALAR, VEC2 .. MAT4."""
        entry: Document = {
            "bufferView": self.view(values.tobytes()),
            "componentType": _COMPONENTS[values.dtype],
            "count": len(values),
            "type": kind,
        }
        if values.dtype == np.dtype("<f4"):
            flat = np.nan_to_num(values.reshape(len(values), -1))
            entry |= {"min": flat.min(axis=0).tolist(), "max": flat.max(axis=0).tolist()}
        return self.add("accessors", entry)

    def add(self, table: str, entry: Document) -> int:
        """Index of an entry that is appended to one of the document's arrays."""
        entries = self.document.setdefault(table, [])
        entries.append(entry)
        return len(entries) - 1

    def node(self, entry: Document, parent: int | None = None) -> int:
        """Index of a new node, under another one or at the top of the scene."""
        index = self.add("nodes", entry)
        siblings = (
            self.document["scenes"][0]["nodes"]
            if parent is None
            else self.document["nodes"][parent].setdefault("children", [])
        )
        siblings.append(index)
        return index

    def color(self, rgb: Sequence[float], texture: Document | None = None) -> int:
        """Index of a rough material of one color, times a texture if its image is given."""
        surface: Document = {
            "baseColorFactor": [*rgb, 1.0],
            "metallicFactor": 0.0,
            "roughnessFactor": 1.0,
        }
        if texture is not None:
            image = self.add("images", texture)
            surface["baseColorTexture"] = {"index": self.add("textures", {"source": image})}
        return self.add("materials", {"pbrMetallicRoughness": surface})

    def animate(
        self,
        node: int,
        path: str,
        values: Sequence[Any] | np.ndarray,
        times: Sequence[float] = TIMES,
        name: str = "move",
    ) -> None:
        """Adds a linear channel to the animation of a name, which is made if it is not there."""
        animations = self.document.setdefault("animations", [])
        if not any(animation["name"] == name for animation in animations):
            animations.append({"name": name, "channels": [], "samplers": []})
        animation = next(found for found in animations if found["name"] == name)
        kind = {"rotation": "VEC4", "weights": "SCALAR"}.get(path, "VEC3")
        sampler = {
            "input": self.accessor(np.asarray(times, "<f4"), "SCALAR"),
            "output": self.accessor(np.asarray(values, "<f4"), kind),
        }
        animation["samplers"].append(sampler)
        animation["channels"].append(
            {"sampler": len(animation["samplers"]) - 1, "target": {"node": node, "path": path}}
        )

    def glb(self) -> bytes:
        """The finished file."""
        return to_glb(self.document, self.binary)


def animated_box_glb(**options: Any) -> bytes:
    """A GLB of two boxes as rigid nodes, a body that sways and a lid that rises and turns.

    Args:
        **options: of `animated_box`.
    """
    return animated_box(**options).glb()


def animated_box(
    *,
    texture: bytes | None = None,
    texture_uri: str | None = None,
    animated: bool = True,
    moves: bool = True,
    times: Sequence[float] = TIMES,
    nan_keyframe: bool = False,
    nan_position: bool = False,
    triangles: int | None = None,
    animation: str = "move",
) -> GltfBuilder:
    """Two boxes, 24 triangles, as rigid nodes under one root.

    Args:
        texture: bytes of an image embedded for the body.
        texture_uri: instead, what the document calls an external image.
        animated: False leaves the animation out.
        moves: False gives every keyframe the same value.
        times: of the keyframes in seconds.
        nan_keyframe: the last place of the lid is not a number.
        nan_position: the first vertex is not a number.
        triangles: how many each box declares without data for them; None is the box as it is.
        animation: its name.
    """
    builder = GltfBuilder()
    image: Document | None = None
    if texture is not None:
        image = {"bufferView": builder.view(texture), "mimeType": "image/png"}
    elif texture_uri is not None:
        image = {"uri": texture_uri}
    red = builder.color((0.8, 0.1, 0.1), image)
    blue = builder.color((0.1, 0.2, 0.8))
    body = box_primitive(builder, red, nan=nan_position, triangles=triangles)
    lid = {**body, "material": blue}
    meshes = [builder.add("meshes", {"primitives": [part]}) for part in (body, lid)]
    root = builder.node({"name": "root"})
    nodes = [
        builder.node({"name": "body", "mesh": meshes[0]}, root),
        builder.node({"name": "lid", "mesh": meshes[1], "translation": [0.0, 1.2, 0.0]}, root),
    ]
    if animated:
        phase = np.linspace(0, 1 if moves else 0, len(times))[:, None]
        rise = np.array([0.0, 1.2, 0.0]) + phase * [0.0, 0.6, 0.0]
        if nan_keyframe:
            rise[-1, 1] = np.nan
        builder.animate(nodes[1], "translation", rise, times, animation)
        builder.animate(nodes[1], "rotation", turn_about_y(phase[:, 0] * 1.5), times, animation)
        builder.animate(nodes[0], "translation", phase * [0.5, 0.0, 0.0], times, animation)
    return builder


def skinned_box_glb(*, nan_bind: bool = False) -> bytes:
    """A GLB of one tall box of 12 triangles, bent by the upper of two joints.

    Args:
        nan_bind: the first inverse bind matrix is not finite.
    """
    builder = GltfBuilder()
    _, upper_bone = _skinned_box(builder, nan_bind=nan_bind)
    builder.animate(upper_bone, "rotation", turn_about_y(np.array([0.0, 0.8, 0.0])), name="twist")
    return builder.glb()


def holding_box_glb(scale: float) -> bytes:
    """A GLB of a skinned box whose upper joint holds a rigid box; the armature is scaled."""
    builder = GltfBuilder()
    _, upper = _skinned_box(builder)
    next(n for n in builder.document["nodes"] if n["name"] == "armature")["scale"] = [scale] * 3
    held = box_primitive(builder, builder.color((0.8, 0.1, 0.1)))
    mesh = builder.add("meshes", {"primitives": [held]})
    builder.node({"name": "held", "mesh": mesh, "translation": [1.0, 2.0, 0.0]}, upper)
    builder.animate(upper, "rotation", turn_about_y(np.array([0.0, 0.8, 2.0])), name="twist")
    return builder.glb()


def _skinned_box(
    builder: GltfBuilder, bent: float = 0.0, nan_bind: bool = False
) -> tuple[int, int]:
    """Adds the box of `skinned_box_glb`; returns its lower joint and the upper, bent about +Y."""
    primitive = box_primitive(builder, builder.color((0.1, 0.7, 0.2)), stretch=(0.5, 2.0, 0.5))
    upper = box_vertices()[0][:, 1] > 0
    joints = np.zeros((24, 4), "u1")
    joints[upper, 0] = 1
    weights = np.zeros((24, 4), "<f4")
    weights[:, 0] = 1
    primitive["attributes"] |= {
        "JOINTS_0": builder.accessor(joints, "VEC4"),
        "WEIGHTS_0": builder.accessor(weights, "VEC4"),
    }
    mesh = builder.add("meshes", {"primitives": [primitive]})
    root = builder.node({"name": "armature"})
    lower_bone = builder.node({"name": "lower", "translation": [0.0, -1.0, 0.0]}, root)
    upper_bone = builder.node({"name": "upper", "translation": [0.0, 1.0, 0.0]}, lower_bone)
    builder.document["nodes"][upper_bone]["rotation"] = turn_about_y(np.array([bent]))[0].tolist()
    bind = np.stack([_translation(0, 1, 0), _translation(0, 0, 0)]).astype("<f4")
    if nan_bind:
        bind[0, 0, 0] = np.inf
    skin = {
        "joints": [lower_bone, upper_bone],
        "inverseBindMatrices": builder.accessor(bind, "MAT4"),
    }
    builder.node({"name": "skin", "mesh": mesh, "skin": builder.add("skins", skin)}, root)
    return lower_bone, upper_bone


def morphing_box_glb() -> bytes:
    """A GLB of one box of 12 triangles that swells, by a morph target."""
    builder = GltfBuilder()
    builder.animate(_morphing_box(builder), "weights", [0.0, 1.0, 0.0], name="swell")
    return builder.glb()


def _morphing_box(
    builder: GltfBuilder, weight: float = 0.0, place: Sequence[float] = (0.0, 0.0, 0.0)
) -> int:
    """Adds the box of `morphing_box_glb` with a weight that swells it; returns its node."""
    primitive = box_primitive(builder, builder.color((0.8, 0.7, 0.1)))
    swollen = (0.5 * box_vertices()[0]).astype("<f4")
    primitive["targets"] = [{"POSITION": builder.accessor(swollen, "VEC3")}]
    mesh = builder.add("meshes", {"primitives": [primitive], "weights": [weight]})
    return builder.node({"name": "swelling", "mesh": mesh, "translation": [*place]})


def moving_parts_glb() -> bytes:
    """A GLB whose animation moves a rigid box, two skinned ones and a morph weight."""
    builder = GltfBuilder()
    mesh = builder.add(
        "meshes", {"primitives": [box_primitive(builder, builder.color((0.8, 0.1, 0.1)))]}
    )
    lid = builder.node({"name": "lid", "mesh": mesh})
    builder.animate(lid, "translation", [[0, 4, 0], [0, 5, 0], [0, 6, 0]])
    builder.animate(_morphing_box(builder, place=(-3.0, 0.0, 0.0)), "weights", [0.0, 1.0, 0.2])
    for angle in (1.5, -1.5):
        _, upper = _skinned_box(builder)
        builder.animate(upper, "rotation", turn_about_y(np.linspace(0, angle, 3)))
    builder.document["nodes"][-4]["translation"] = [3.0, 0.0, 0.0]  # the last armature
    return builder.glb()


def outlined_box_glb(double_sided: bool = False) -> bytes:
    """A GLB of a red box in a larger black shell that faces inwards, and a mirrored green box.

    Args:
        double_sided: whether both sides of the materials are visible.
    """
    builder = GltfBuilder()
    red, black, green = (
        builder.color(rgb) for rgb in ((0.8, 0.1, 0.1), (0.0, 0.0, 0.0), (0.1, 0.7, 0.1))
    )
    for material in builder.document["materials"]:
        material["doubleSided"] = double_sided
    shell = box_primitive(builder, black, stretch=(1.5, 1.5, 1.5))
    inwards = np.ascontiguousarray(box_vertices()[3].reshape(-1, 3)[:, ::-1]).reshape(-1)
    shell["indices"] = builder.accessor(inwards, "SCALAR")
    parts = [box_primitive(builder, red), shell, box_primitive(builder, green)]
    boxes = [builder.add("meshes", {"primitives": [part]}) for part in parts]
    root = builder.node({"name": "root"})
    builder.node({"name": "box", "mesh": boxes[0]}, root)
    builder.node({"name": "outline", "mesh": boxes[1]}, root)
    mirrored = {"translation": [1.6, 0.0, 0.0], "scale": [-1.0, 1.0, 1.0]}
    builder.node({"name": "mirrored", "mesh": boxes[2], **mirrored}, root)
    builder.animate(root, "rotation", turn_about_y(np.array([0.0, 0.2, 0.4])), name="turn")
    return builder.glb()


def partial_clips_glb() -> bytes:
    """A GLB whose five clips key different things, and whose rest pose none of them begins with.

    A rigid lid, a box that two bent joints skin, and a half swollen box: A_lift and E_turn move the
    lid, B_bend the upper joint, C_swell the morph weight, D_widen scales the lower joint.
    """
    builder = GltfBuilder()
    red = builder.color((0.8, 0.1, 0.1))
    lid = {
        "name": "lid",
        "mesh": builder.add("meshes", {"primitives": [box_primitive(builder, red)]}),
    }
    lid |= {"translation": [0.0, 1.5, 0.3], "rotation": turn_about_y(np.array([0.4]))[0].tolist()}
    lid_node = builder.node(lid)
    lower, upper = _skinned_box(builder, bent=0.6)
    swelling = _morphing_box(builder, weight=0.5, place=[-2.0, 0.0, 0.0])
    turns = turn_about_y(np.array([0.0, 0.9, 2.4]))
    builder.animate(lid_node, "translation", [[0, 3, 0], [0.5, 2, 0], [0, 4, 1]], name="A_lift")
    builder.animate(upper, "rotation", turns, name="B_bend")
    builder.animate(swelling, "weights", [0.0, 1.0, 0.2], name="C_swell")
    builder.animate(lower, "scale", [[2, 1, 1], [1, 1, 3], [1, 2, 1]], name="D_widen")
    builder.animate(lid_node, "rotation", turns, (0.25, 0.5, 1.5), name="E_turn")
    return builder.glb()


def write_animated_box_gltf(
    folder: Path, name: str = "box", texture: bytes | None = None, embedded: bool = False
) -> Path:
    """Writes a .gltf with its buffer and texture beside it.

    Args:
        folder: gets `<name>.gltf`, `<name>.bin` and, with a texture, `textures/<name>.png`.
        name: the stem of the files.
        texture: bytes of an image for the body.
        embedded: puts the buffer into the document as a data URI instead.
    """
    image = f"textures/{name}.png" if texture is not None else None
    builder = animated_box(texture_uri=image)
    folder.mkdir(parents=True, exist_ok=True)
    if embedded:
        text = base64.b64encode(builder.binary).decode()
        builder.document["buffers"][0]["uri"] = f"data:application/octet-stream;base64,{text}"
    else:
        builder.document["buffers"][0]["uri"] = f"{name}.bin"
        (folder / f"{name}.bin").write_bytes(builder.binary)
    if image is not None and texture is not None:
        (folder / "textures").mkdir(exist_ok=True)
        (folder / image).write_bytes(texture)
    path = folder / f"{name}.gltf"
    path.write_text(json.dumps(builder.document))
    return path


def write_obj_sequence(folder: Path, frames: int = 3, stem: str = "box") -> Path:
    """Writes `<stem>_0001.obj` …: a box that moves along +X. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    positions, _, _, indices = box_vertices()
    faces = "".join("f {} {} {}\n".format(*(face + 1)) for face in indices.reshape(-1, 3))
    for frame in range(frames):
        moved = positions + np.array([0.2 * frame, 0.0, 0.0])
        vertices = "".join("v {:g} {:g} {:g}\n".format(*vertex) for vertex in moved)
        (folder / f"{stem}_{frame + 1:04d}.obj").write_text(vertices + faces)
    return folder


def edited(glb: bytes, edit: Callable[[Document], None]) -> bytes:
    """The GLB with its document changed in place by a function; the binary chunk is kept."""
    document, binary = from_glb(glb)
    edit(document)
    return to_glb(document, binary)


def to_glb(document: Document, binary: bytes = b"") -> bytes:
    """A document and its buffer in one container."""
    text = json.dumps(document).encode()
    chunks = _chunk(b"JSON", text + b" " * (-len(text) % 4))
    if binary:
        chunks += _chunk(b"BIN\0", binary + bytes(-len(binary) % 4))
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def from_glb(glb: bytes) -> tuple[Document, bytes]:
    """The document and the buffer of a container made by `to_glb`."""
    (length,) = struct.unpack_from("<I", glb, 12)
    return json.loads(glb[20 : 20 + length]), glb[20 + length + 8 :]


def png(width: int = 4, height: int = 4, rgb: tuple[int, int, int] = (200, 60, 60)) -> bytes:
    """A valid image of one color."""
    rows = (b"\0" + bytes(rgb) * width) * height
    return png_header(width, height) + _png_chunk(b"IDAT", zlib.compress(rows)) + _PNG_END


def png_header(width: int, height: int) -> bytes:
    """The first 33 bytes of an image, which declare its size; no pixels follow."""
    declared = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", declared)


def box_primitive(
    builder: GltfBuilder,
    material: int,
    *,
    stretch: Sequence[float] = (1.0, 1.0, 1.0),
    nan: bool = False,
    triangles: int | None = None,
) -> Document:
    """A primitive of a unit box; `triangles` declares indices that have no data behind them."""
    positions, normals, uvs, indices = box_vertices()
    positions = (positions * stretch).astype("<f4")
    if nan:
        positions[0, 0] = np.nan
    declared = {"componentType": 5125, "count": 3 * (triangles or 0), "type": "SCALAR"}
    return {
        "attributes": {
            "POSITION": builder.accessor(positions, "VEC3"),
            "NORMAL": builder.accessor(normals, "VEC3"),
            "TEXCOORD_0": builder.accessor(uvs, "VEC2"),
        },
        "indices": (
            builder.accessor(indices, "SCALAR")
            if triangles is None
            else builder.add("accessors", declared)
        ),
        "material": material,
    }


def box_vertices() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positions and normals [24, 3], texture coordinates [24, 2] and indices [36] of a unit box."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    positions, normals = [], []
    for axis in range(3):
        for sign in (-1, 1):
            face = np.empty((4, 3))
            face[:, axis] = sign
            face[:, (axis + 1) % 3] = corners[:, 0] * sign  # counter-clockwise from outside
            face[:, (axis + 2) % 3] = corners[:, 1]
            positions.append(face / 2)
            normals.append(np.tile(sign * np.eye(3)[axis], (4, 1)))
    quads = np.arange(24).reshape(6, 4)
    return (
        np.concatenate(positions).astype("<f4"),
        np.concatenate(normals).astype("<f4"),
        np.tile((corners + 1) / 2, (6, 1)).astype("<f4"),
        quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1).astype("<u2"),
    )


def turn_about_y(angles_rad: np.ndarray) -> np.ndarray:
    """Quaternions (x, y, z, w) of turns about +Y, [N, 4]."""
    zero = np.zeros_like(angles_rad)
    return np.stack([zero, np.sin(angles_rad / 2), zero, np.cos(angles_rad / 2)], axis=1)


def _translation(x: float, y: float, z: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[3, :3] = x, y, z  # glTF stores columns one after another
    return matrix


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + kind + data


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_PNG_END = _png_chunk(b"IEND", b"")
