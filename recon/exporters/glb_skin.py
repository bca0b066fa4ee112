"""The skin and the animation of a rigged mesh in glTF.

Joints are nodes below one root. Their rest is the pose of the inverse bind matrices; the nodes
themselves are in the pose of the first frame, which readers without animation show. Weights are
16-bit, the strongest influences first, so that readers of one set of joints get the most of the
motion. Letters: T frames, J joints, P vertices.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recon.exporters.gltf import ARRAY_BUFFER, XYZW, GlbWriter
from recon.mesh.rig import Rig
from recon.mesh.skeleton import rigid_inverse
from recon.mesh.skinning import strongest_influences
from recon.quantization import quantized_weights

JOINTS_OF_A_SET = 4
WEIGHT_LEVELS = 65535


def skin_attributes(writer: GlbWriter, weights: np.ndarray) -> dict[str, int]:
    """Write the joints and weights of the vertices, in one or two sets.

    Args:
        writer: receives the accessors.
        weights: skinning weights, at most `INFLUENCES` of them positive in a row, [P, J].
    """
    joints, strongest = strongest_influences(weights)
    levels = quantized_weights(strongest, WEIGHT_LEVELS)
    joints = np.where(levels > 0, joints, 0)  # as glTF requires of unused influences
    kind = np.uint8 if weights.shape[1] <= 256 else np.uint16
    padding = ((0, 0), (0, -joints.shape[1] % JOINTS_OF_A_SET))
    joints, levels = np.pad(joints, padding), np.pad(levels, padding)
    attributes = {}
    for number in range(joints.shape[1] // JOINTS_OF_A_SET):
        columns = slice(JOINTS_OF_A_SET * number, JOINTS_OF_A_SET * (number + 1))
        if number > 0 and not levels[:, columns].any():
            break
        attributes[f"JOINTS_{number}"] = writer.accessor(
            joints[:, columns].astype(kind), ARRAY_BUFFER
        )
        attributes[f"WEIGHTS_{number}"] = writer.accessor(
            levels[:, columns].astype(np.uint16), ARRAY_BUFFER, normalized=True
        )
    return attributes


def add_skeleton(writer: GlbWriter, rig: Rig, seconds: np.ndarray) -> None:
    """Append the joints to the nodes of a document, and its skin and animation.

    Args:
        writer: its document has `nodes`; the index of the root joint is their number.
        rig: skeleton in the axes of the file, at the times of `seconds`.
        seconds: presentation times of the frames, ascending from 0, [T].
    """
    skeleton = rig.skeleton
    translations, quats = skeleton.local_motion()
    translations = translations.astype(np.float32)
    rotations = quats[..., XYZW].astype(np.float32)
    nodes: list[dict[str, Any]] = writer.json["nodes"]
    first = len(nodes)
    for joint, name in enumerate(skeleton.names):
        node: dict[str, Any] = {
            "name": name,
            "translation": translations[0, joint].tolist(),
            "rotation": rotations[0, joint].tolist(),
        }
        children = np.flatnonzero(skeleton.parents == joint)
        if len(children):
            node["children"] = [first + int(child) for child in children]
        nodes.append(node)
    inverse_binds = rigid_inverse(skeleton.rest).transpose(0, 2, 1).reshape(-1, 16)
    skin = {
        "name": "skeleton",
        "joints": list(range(first, first + len(skeleton.names))),
        "skeleton": first,
        "inverseBindMatrices": writer.accessor(
            inverse_binds.astype(np.float32), name="inverse bind matrices"
        ),
    }
    writer.json["skins"] = [skin]
    writer.json["animations"] = [_animation(writer, seconds, translations, rotations, first)]


def _animation(
    writer: GlbWriter,
    seconds: np.ndarray,
    translations: np.ndarray,
    rotations: np.ndarray,
    first: int,
) -> dict[str, Any]:
    """Animate translations [T, J, 3] and rotations xyzw [T, J, 4] of the nodes from `first` on."""
    times = writer.accessor(seconds.astype(np.float32), bounds=True, name="seconds")
    samplers, channels = [], []
    for joint in range(translations.shape[1]):
        for path, values in (("translation", translations), ("rotation", rotations)):
            if (values[:, joint] == values[0, joint]).all():
                continue  # the node has this value
            target = {"node": first + joint, "path": path}
            channels.append({"sampler": len(samplers), "target": target})
            output = writer.accessor(values[:, joint])
            samplers.append({"input": times, "output": output, "interpolation": "LINEAR"})
    return {"name": "motion", "samplers": samplers, "channels": channels}
