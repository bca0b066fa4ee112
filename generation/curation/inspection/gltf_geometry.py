"""The meshes and the node tree of a glTF file: is all sound, and how many triangles are shown?

What it does not know: materials, animations.
"""

from __future__ import annotations

from generation.curation.inspection.findings import AssetError, Limits, Reason
from generation.curation.inspection.gltf_accessors import Accessor
from generation.curation.inspection.gltf_document import Entry

_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_DEEPEST = 900  # Blender's importer calls itself for each level, and Python ends that at 1000


def count_triangles(document: Entry, accessors: list[Accessor], limits: Limits) -> int:
    """Triangles of all meshes, as often as nodes show them; points and lines are none.

    Args:
        document: of the file.
        accessors: of the file.
        limits: how many there may be.

    Raises:
        AssetError: the node tree or a mesh is malformed, or there are none or too many triangles.
    """
    meshes = [
        sum(_triangles(primitive, accessors) for primitive in mesh.entries("primitives"))
        for mesh in document.entries("meshes")
    ]
    count = 0
    nodes = document.entries("nodes")
    _check_tree(nodes)
    for node in nodes:
        _check_place(node)
        mesh = node.index("mesh", meshes)
        if mesh is not None:
            count += meshes[mesh] * _instances(node, accessors)
    if count == 0:
        raise AssetError(Reason.no_triangles, "no node shows a mesh with triangles")
    if count > limits.triangles:
        raise AssetError(
            Reason.too_many_triangles,
            f"it shows {count:,} triangles, more than {limits.triangles:,}",
        )
    return count


def check_finite_geometry(document: Entry, accessors: list[Accessor]) -> None:
    """Raises AssetError if positions, morph targets or inverse bind matrices are not finite."""
    found: dict[int, str] = {}  # many primitives may share one accessor
    for mesh in document.entries("meshes"):
        for primitive in mesh.entries("primitives"):
            for attributes in (primitive.entry("attributes"), *primitive.entries("targets")):
                index = attributes and attributes.index("POSITION", accessors)
                if attributes is not None and index is not None:
                    found.setdefault(index, f"{attributes.place}.POSITION")
    for skin in document.entries("skins"):
        index = skin.index("inverseBindMatrices", accessors)
        if index is not None:
            found.setdefault(index, f"{skin.place}.inverseBindMatrices")
    for index, what in found.items():
        accessors[index].check_finite(what)


def check_skins(document: Entry, accessors: list[Accessor]) -> None:
    """Raises AssetError if a skin lacks joints or matrices, or a node names none that is there."""
    nodes = document.entries("nodes")
    skins = document.entries("skins")
    for skin in skins:
        joints = len(skin.indices("joints", nodes))
        matrices = skin.index("inverseBindMatrices", accessors)
        given = joints if matrices is None else accessors[matrices].count
        if joints == 0 or given < joints:
            raise AssetError(
                Reason.malformed, f"{skin.place} has {joints} joints and {given} bind matrices"
            )
    for node in nodes:
        node.index("skin", skins)


def _triangles(primitive: Entry, accessors: list[Accessor]) -> int:
    attributes = primitive.entry("attributes")
    positions = None if attributes is None else attributes.index("POSITION", accessors)
    if positions is None:  # Blender leaves it out
        return 0
    indices = primitive.index("indices", accessors)
    count = accessors[positions if indices is None else indices].count
    mode = primitive.integer("mode", _TRIANGLES)
    if mode == _TRIANGLES:
        return count // 3
    return max(count - 2, 0) if mode in (_STRIP, _FAN) else 0


def _instances(node: Entry, accessors: list[Accessor]) -> int:
    """How often a node shows its mesh."""
    instancing = node.extension("EXT_mesh_gpu_instancing")
    attributes = None if instancing is None else instancing.entry("attributes")
    if attributes is None:
        return 1
    return max((attributes.item(key, accessors).count for key in attributes.names()), default=1)


def _check_tree(nodes: list[Entry]) -> None:
    """Raises AssetError if a node has two parents, is its own ancestor or is nested too deeply."""
    children = [node.indices("children", nodes) for node in nodes]
    has_parent = [False] * len(nodes)
    for node, below in zip(nodes, children, strict=True):
        for child in below:
            if has_parent[child]:
                raise AssetError(
                    Reason.malformed,
                    f"nodes[{child}] is a child twice, the second time of {node.place}",
                )
            has_parent[child] = True
    level = [index for index, parented in enumerate(has_parent) if not parented]
    reached = depth = 0
    while level:
        reached += len(level)
        depth += 1
        level = [child for index in level for child in children[index]]
    if reached < len(nodes):
        raise AssetError(Reason.malformed, "some of its nodes are their own ancestors")
    if depth > _DEEPEST:
        raise AssetError(
            Reason.unsupported,
            f"its nodes are nested {depth:,} deep; Blender follows them to {_DEEPEST}",
        )


def _check_place(node: Entry) -> None:
    for key, count in (("matrix", 16), ("translation", 3), ("rotation", 4), ("scale", 3)):
        node.numbers(key, count)
