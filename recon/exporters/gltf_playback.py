"""Play a GLB: its mesh at any time of its animation, by skin or by morph targets.

An evaluation as readers do it (glTF 2.0, sections 3.7 and 3.11), independent of the writers, with
which files are verified: LINEAR animations of one mesh, translations and rotations of joints, and
weights of morph targets, whose node is the first. Letters: T times, J joints, P vertices. Axes:
those of the file.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from recon.exporters.gltf import Glb


class PlayedMesh(NamedTuple):
    """A mesh at T times.

    Attributes:
        positions: [T, P, 3].
        normals: of unit length, [T, P, 3].
        rest: positions without animation and skin, [P, 3].
        rest_normals: their normals, [P, 3].
    """

    positions: np.ndarray
    normals: np.ndarray
    rest: np.ndarray
    rest_normals: np.ndarray


def frame_times_of(glb: Glb) -> np.ndarray:
    """Return the times of the frames of the animation in seconds, [0.0] without one."""
    animations = glb.json.get("animations", [])
    return glb.array(animations[0]["samplers"][0]["input"]) if animations else np.zeros(1)


def play(glb: Glb, seconds: np.ndarray) -> PlayedMesh:
    """Evaluate the first mesh of a file.

    Args:
        glb: the file.
        seconds: times, clamped to those of the animation, [T].

    Raises:
        KeyError, IndexError: the file lacks a part that its mesh needs.
    """
    primitive = glb.json["meshes"][0]["primitives"][0]
    rest = glb.array(primitive["attributes"]["POSITION"]).astype(np.float64)
    rest_normals = glb.array(primitive["attributes"]["NORMAL"]).astype(np.float64)
    move = _skinned if "skins" in glb.json else _morphed
    positions, normals = move(glb, primitive, rest, rest_normals, np.atleast_1d(seconds))
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    return PlayedMesh(positions, normals, rest, rest_normals)


def _morphed(
    glb: Glb, primitive: dict[str, Any], rest: np.ndarray, normals: np.ndarray, seconds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    targets = primitive.get("targets", [])
    if not targets:
        return np.tile(rest, (len(seconds), 1, 1)), np.tile(normals, (len(seconds), 1, 1))
    channel = glb.json["animations"][0]["samplers"][0]
    times = glb.array(channel["input"])
    table = glb.array(channel["output"]).reshape(len(times), len(targets))
    weights = np.stack([np.interp(seconds, times, column) for column in table.T], axis=1)
    transforms = _global_transforms(glb, seconds)[:, 0]  # of the node of the mesh
    turn, offset = np.swapaxes(transforms[:, :3, :3], 1, 2), transforms[:, None, :3, 3]
    moved = [
        base + np.einsum("tk,kpc->tpc", weights, np.stack([glb.array(t[name]) for t in targets]))
        for name, base in (("POSITION", rest), ("NORMAL", normals))
    ]
    return moved[0] @ turn + offset, moved[1] @ turn


def _skinned(
    glb: Glb, primitive: dict[str, Any], rest: np.ndarray, normals: np.ndarray, seconds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    skin = glb.json["skins"][0]
    globals_ = _global_transforms(glb, seconds)[:, skin["joints"]]
    inverse_binds = glb.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    transforms = (globals_ @ inverse_binds).reshape(len(seconds), -1, 16)  # [T, J, 16]
    weights = np.zeros((len(rest), transforms.shape[1]))
    rows = np.arange(len(rest))
    for number in range(8):
        if f"JOINTS_{number}" not in primitive["attributes"]:
            break
        joints = glb.array(primitive["attributes"][f"JOINTS_{number}"])
        values = glb.array(primitive["attributes"][f"WEIGHTS_{number}"])
        for column in range(4):
            weights[rows, joints[:, column]] += values[:, column]
    blended = (weights @ transforms).reshape(len(seconds), len(rest), 4, 4)
    moved = (blended[..., :3, :3] @ rest[..., None])[..., 0] + blended[..., :3, 3]
    return moved, (blended[..., :3, :3] @ normals[..., None])[..., 0]


def _global_transforms(glb: Glb, seconds: np.ndarray) -> np.ndarray:
    """Return the transforms of all nodes to the scene, [T, nodes, 4, 4]."""
    nodes = glb.json["nodes"]
    local = np.tile(np.eye(4), (len(seconds), len(nodes), 1, 1))
    for index, node in enumerate(nodes):
        local[:, index, :3, 3] = node.get("translation", [0.0, 0.0, 0.0])
        rotation = Rotation.from_quat(node.get("rotation", [0.0, 0.0, 0.0, 1.0]))
        local[:, index, :3, :3] = rotation.as_matrix()
    for animation in glb.json.get("animations", []):
        for channel in animation["channels"]:
            sampler, target = animation["samplers"][channel["sampler"]], channel["target"]
            times, values = (glb.array(sampler[key]) for key in ("input", "output"))
            if target["path"] == "weights":
                continue
            at = np.clip(seconds, times[0], times[-1])
            if target["path"] == "translation":
                columns = [np.interp(at, times, column) for column in values.T]
                local[:, target["node"], :3, 3] = np.stack(columns, axis=1)
            else:
                turn = Slerp(times, Rotation.from_quat(values))(at)
                local[:, target["node"], :3, :3] = turn.as_matrix()
    result = local.copy()
    waiting = [(index, None) for index in glb.json["scenes"][0]["nodes"]]
    while waiting:
        index, parent = waiting.pop()
        if parent is not None:
            result[:, index] = result[:, parent] @ local[:, index]
        waiting += [(child, index) for child in nodes[index].get("children", [])]
    return result
