"""Animation, skins and morph targets of a GLB by the rules of glTF 2.0, as a reference for Blender.

What an animation does not key has the value of its node (section 3.11). It reads what `tiny_assets`
writes: float data without strides, LINEAR and STEP channels, four joints per vertex. Axes are
those of Blender: +Z up, the front at -Y. Letters: F frames, N vertices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from tests.generation.curation.tiny_assets import Document, from_glb

_TYPES = {5121: "u1", 5123: "<u2", 5126: "<f4"}
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_DEFAULTS = {"translation": [0, 0, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1]}


def animated_vertices(glb: bytes, animation: str, frames: int) -> np.ndarray:
    """Return the vertices of all meshes at evenly spaced times, both ends included, [F, N, 3]."""
    document, binary = from_glb(glb)
    channels = _channels(document, binary, animation)
    ends = [times[[0, -1]] for *_, times, _ in channels]
    times = np.linspace(np.min(ends), np.max(ends), frames)
    posed = [np.concatenate(list(_vertices(document, binary, channels, time))) for time in times]
    return np.stack(posed)[..., [0, 2, 1]] * [1, -1, 1]


def _channels(document: Document, binary: bytes, animation: str) -> list[tuple]:
    """Return node, path, interpolation, times and values of each channel."""
    (found,) = (each for each in document["animations"] if each["name"] == animation)
    channels = []
    for channel in found["channels"]:
        sampler = found["samplers"][channel["sampler"]]
        times = _accessor(document, binary, sampler["input"])[:, 0]
        values = _accessor(document, binary, sampler["output"]).reshape(len(times), -1)
        mode = sampler.get("interpolation", "LINEAR")
        channels.append((channel["target"]["node"], channel["target"]["path"], mode, times, values))
    return channels


def _accessor(document: Document, binary: bytes, index: int) -> np.ndarray:
    accessor = document["accessors"][index]
    view, width = document["bufferViews"][accessor["bufferView"]], _COMPONENTS[accessor["type"]]
    start, count = view["byteOffset"], accessor["count"] * width
    values = np.frombuffer(binary, _TYPES[accessor["componentType"]], count, start)
    return values.reshape(-1, width).astype(float)


def _value(path: str, mode: str, times: np.ndarray, values: np.ndarray, time: float) -> np.ndarray:
    time = np.clip(time, times[0], times[-1])
    if mode == "STEP":
        return values[np.searchsorted(times, time, "right") - 1]
    if path == "rotation":
        return Slerp(times, Rotation.from_quat(values))(time).as_quat()
    return np.array([np.interp(time, times, column) for column in values.T])


def _vertices(document: Document, binary: bytes, channels, time: float) -> Iterator[np.ndarray]:
    """Yield the vertices of each primitive in glTF's axes."""
    nodes = [dict(node) for node in document["nodes"]]
    for node, path, mode, times, values in channels:
        nodes[node][path] = _value(path, mode, times, values, time)
    T_world_node = _world_matrices(document, nodes)
    for node, T in zip(nodes, T_world_node, strict=True):
        if "mesh" not in node:
            continue
        mesh = document["meshes"][node["mesh"]]
        weights = node.get("weights", mesh.get("weights", ()))
        for primitive in mesh["primitives"]:
            arrays = {
                name: _accessor(document, binary, index)
                for name, index in primitive["attributes"].items()
            }
            points = arrays["POSITION"]
            for weight, target in zip(weights, primitive.get("targets", ()), strict=True):
                points = points + weight * _accessor(document, binary, target["POSITION"])
            points = np.column_stack([points, np.ones(len(points))])
            if "skin" not in node:
                yield (points @ T.T)[:, :3]
                continue
            skin = document["skins"][node["skin"]]
            inverse = _accessor(document, binary, skin["inverseBindMatrices"]).reshape(-1, 4, 4)
            T_joint = T_world_node[skin["joints"]] @ inverse.swapaxes(1, 2)
            blended = np.einsum(
                "nk,nkij->nij", arrays["WEIGHTS_0"], T_joint[arrays["JOINTS_0"].astype(int)]
            )
            yield np.einsum("nij,nj->ni", blended, points)[:, :3]


def _world_matrices(document: Document, nodes: list[dict[str, Any]]) -> np.ndarray:
    T = np.tile(np.eye(4), (len(nodes), 1, 1))

    def walk(index: int, T_world_parent: np.ndarray) -> None:
        values = {path: nodes[index].get(path, default) for path, default in _DEFAULTS.items()}
        own = np.eye(4)
        own[:3, :3] = Rotation.from_quat(values["rotation"]).as_matrix() * values["scale"]
        own[:3, 3] = values["translation"]
        T[index] = T_world_parent @ own
        for child in nodes[index].get("children", ()):
            walk(child, T[index])

    for root in document["scenes"][0]["nodes"]:
        walk(root, np.eye(4))
    return T
