"""Inspection of glTF 2.0 files: node tree, meshes, skins, keyframes and images.

Of the buffers, only keyframes, positions, bind matrices and image headers are read.
"""

from __future__ import annotations

import io
from pathlib import Path

from generation.curation.assets.gltf_file import (
    Accessor,
    Entry,
    View,
    data_uri,
    local_file,
    open_gltf,
)
from generation.curation.assets.limits import (
    AssetError,
    ImageSize,
    Inspection,
    Limits,
    Reason,
    check_image_sizes,
    read_image_size,
    require,
)

MAX_DEPTH = 900  # Blender's importer recurses for each level, and Python stops at 1000
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_TRANSFORMS = (("matrix", 16), ("translation", 3), ("rotation", 4), ("scale", 3))
_PATHS = ("translation", "rotation", "scale", "weights")


def inspect_gltf(path: Path, limits: Limits) -> Inspection:
    """Inspect a .glb or .gltf file.

    Raises:
        AssetError: the file is refused.
    """
    document, views, accessors = open_gltf(path, limits)
    nodes = document.entries("nodes")
    triangles = _count_triangles(document, nodes, accessors, limits)
    animations = _animations(document, nodes, accessors)
    _check_skins(document, nodes, accessors)
    _check_finite_geometry(document, accessors)
    return Inspection(triangles, animations, _missing_images(document, views, path.parent, limits))


def _count_triangles(
    document: Entry, nodes: list[Entry], accessors: list[Accessor], limits: Limits
) -> int:
    """Count the triangles of all meshes, once for each node and instance that shows them."""
    meshes = [
        sum(_triangles(primitive, accessors) for primitive in mesh.entries("primitives"))
        for mesh in document.entries("meshes")
    ]
    _check_tree(nodes)
    count = 0
    for node in nodes:
        for key, numbers in _TRANSFORMS:
            node.check_numbers(key, numbers)
        mesh = node.index("mesh", meshes)
        if mesh is not None:
            count += meshes[mesh] * _instances(node, accessors)
    require(count > 0, Reason.no_triangles, "no node shows a mesh with triangles")
    message = f"it has {count:,} triangles, more than {limits.triangles:,}"
    require(count <= limits.triangles, Reason.too_many_triangles, message)
    return count


def _triangles(primitive: Entry, accessors: list[Accessor]) -> int:
    attributes = primitive.entry("attributes")
    positions = None if attributes is None else attributes.index("POSITION", accessors)
    if positions is None:  # Blender ignores it
        return 0
    indices = primitive.index("indices", accessors)
    count = accessors[positions if indices is None else indices].count
    mode = primitive.integer("mode", _TRIANGLES)
    if mode == _TRIANGLES:
        return count // 3
    return max(count - 2, 0) if mode in (_STRIP, _FAN) else 0


def _instances(node: Entry, accessors: list[Accessor]) -> int:
    extensions = node.entry("extensions")
    instancing = extensions and extensions.entry("EXT_mesh_gpu_instancing")
    attributes = instancing and instancing.entry("attributes")
    if not attributes:
        return 1
    return max((attributes.item(key, accessors).count for key in attributes.fields), default=1)


def _check_tree(nodes: list[Entry]) -> None:
    """Check that the nodes form trees of a depth that Blender can import."""
    children = [node.indices("children", nodes) for node in nodes]
    below = [child for each in children for child in each]
    roots = sorted(set(range(len(nodes))) - set(below))
    require(len(below) == len(set(below)), Reason.malformed, "a node has two parents")
    level, reached, depth = roots, 0, 0
    while level:
        reached, depth = reached + len(level), depth + 1
        level = [child for index in level for child in children[index]]
    require(reached == len(nodes), Reason.malformed, "some nodes are their own ancestors")
    too_deep = f"its nodes are nested {depth:,} deep; Blender supports {MAX_DEPTH}"
    require(depth <= MAX_DEPTH, Reason.unsupported, too_deep)


def _check_skins(document: Entry, nodes: list[Entry], accessors: list[Accessor]) -> None:
    skins = document.entries("skins")
    for skin in skins:
        joints = len(skin.indices("joints", nodes))
        index = skin.index("inverseBindMatrices", accessors)
        matrices = joints if index is None else accessors[index].count
        message = f"{skin.place} has {joints} joints and {matrices} bind matrices"
        require(0 < joints <= matrices, Reason.malformed, message)
    for node in nodes:
        node.index("skin", skins)


def _check_finite_geometry(document: Entry, accessors: list[Accessor]) -> None:
    """Check positions, morph targets and bind matrices; shared accessors are read once."""
    places: dict[int, str] = {}
    owners = [(skin, "inverseBindMatrices") for skin in document.entries("skins")]
    for mesh in document.entries("meshes"):
        for primitive in mesh.entries("primitives"):
            for attributes in (primitive.entry("attributes"), *primitive.entries("targets")):
                if attributes is not None:
                    owners.append((attributes, "POSITION"))
    for owner, key in owners:
        index = owner.index(key, accessors)
        if index is not None:
            places.setdefault(index, f"{owner.place}.{key}")
    for index, place in places.items():
        accessors[index].require_finite(place)


def _animations(document: Entry, nodes: list[Entry], accessors: list[Accessor]) -> tuple[str, ...]:
    """Names of the animations of positive duration, as Blender names them; at least one."""
    entries = document.entries("animations")
    seconds = [_duration(entry, nodes, accessors) for entry in entries]
    names = tuple(
        entry.text("name") or f"Anim_{number}"
        for number, entry in enumerate(entries)
        if seconds[number] > 0
    )
    message = f"none of its {len(entries)} animations has a channel with two keyframes"
    require(bool(names), Reason.no_animation, message)
    return names


def _duration(animation: Entry, nodes: list[Entry], accessors: list[Accessor]) -> float:
    """Seconds from the first to the last keyframe of the longest channel that has a target."""
    name = f"animation {animation.text('name') or animation.place!r}"
    samplers = animation.entries("samplers")
    longest = 0.0
    for channel in animation.entries("channels"):
        sampler = channel.item("sampler", samplers)
        target = channel.entry("target")
        path = None if target is None else target.text("path")
        if target is None or path is None:
            raise AssetError(Reason.malformed, f"{channel.place} has no target")
        has_node = target.index("node", nodes) is not None
        if path != "pointer" and not (has_node and path in _PATHS):
            continue  # the specification lets readers ignore it, and Blender does
        times, values = sampler.item("input", accessors), sampler.item("output", accessors)
        cubic = sampler.text("interpolation") == "CUBICSPLINE"
        is_time = times.components == 1 and times.dtype.kind == "f"
        require(is_time, Reason.malformed, f"{name}: {times.place} holds no times")
        times.require_finite(f"{name}: times")
        values.require_finite(f"{name}: values")
        ascending = times.duration is not None
        require(ascending, Reason.unordered_keyframes, f"{name}: {times.place} does not ascend")
        keys = times.count * (3 if cubic else 1)  # each value has two tangents beside it
        matches = values.count >= keys and not (keys and values.count % keys)
        message = f"{name}: {values.count} values in {values.place} for {times.count} keyframes"
        require(matches, Reason.malformed, message)
        longest = max(longest, times.duration or 0.0)
    return longest


def _missing_images(
    document: Entry, views: list[View], folder: Path, limits: Limits
) -> tuple[str, ...]:
    """Names of the images that are missing or unreadable."""
    images = document.entries("images")
    embedded = [image.index("bufferView", views) for image in images]
    size = sum(len(views[index].data) for index in embedded if index is not None)
    message = f"its images have {size:,} bytes together, more than {limits.file_bytes:,}"
    require(size <= limits.file_bytes, Reason.too_large, message)
    known: dict[str | int | None, ImageSize | None] = {}  # many images may share their bytes
    sizes = []
    for image, index in zip(images, embedded, strict=True):
        uri = image.text("uri")
        source = index if uri is None else uri
        if source not in known:
            known[source] = _image_size(source, views, folder)
        named = uri is None or uri.startswith("data:")
        name = (image.text("name") or image.place) if named else str(uri)[:200]
        sizes.append((name, known[source]))
    check_image_sizes(sizes, limits)
    return tuple(name for name, size in sizes if size is None)


def _image_size(source: str | int | None, views: list[View], folder: Path) -> ImageSize | None:
    """Read the size of the image in a buffer view or at a URI."""
    if isinstance(source, int):
        return read_image_size(io.BytesIO(views[source].data.tobytes()))
    data = None if source is None else data_uri(source)
    if data is not None:
        return read_image_size(io.BytesIO(data))
    path = None if source is None else local_file(source, folder)
    if path is None:
        return None
    with path.open("rb") as file:
        return read_image_size(file)
