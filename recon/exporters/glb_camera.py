"""The camera of the video in glTF, and the motion of a node in front of it.

glTF's cameras look along −Z with +Y up, as those of this project, and have the principal point in
the middle of their image. Letters: T frames.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.transform import Rotation

from recon.exporters.gltf import GlbWriter
from recon.grid.cameras import Camera

NAME = "source"
CLIPPING = 1000.0  # of the near and the far plane, relative to the size of the object


def add_camera(writer: GlbWriter, camera: Camera, size: float) -> None:
    """Append a camera to the nodes of a document and to its scene.

    Args:
        writer: its document has `nodes` and a scene.
        camera: a camera in the axes of the file, with its principal point in the middle.
        size: size of the object, which determines the clipping planes.
    """
    size = size or 1.0
    perspective = {
        "aspectRatio": camera.width / camera.height,
        "yfov": 2 * math.atan(camera.height / 2 / camera.fl_y),
        "znear": size / CLIPPING,
        "zfar": size * CLIPPING,
    }
    document = writer.json
    document["cameras"] = [{"name": NAME, "type": "perspective", "perspective": perspective}]
    document["scenes"][0]["nodes"].append(len(document["nodes"]))
    translation, rotation = camera.T_world_camera[:3, 3], camera.T_world_camera[:3, :3]
    document["nodes"].append(
        {
            "name": NAME,
            "camera": 0,
            "translation": translation.tolist(),
            "rotation": Rotation.from_matrix(rotation).as_quat().tolist(),
        }
    )


def move_node(writer: GlbWriter, node: int, poses: np.ndarray) -> None:
    """Add the motion of a node to the animation of a document, unless it does not move.

    Args:
        writer: its document has an animation, whose first sampler has the times of the frames.
        node: index of the node, which has no transform of its own.
        poses: rigid motions in the axes of the file, the identity first, [T, 4, 4].
    """
    animation = writer.json["animations"][0]
    quats = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    quats *= np.where(quats[:, 3:] < 0, -1.0, 1.0)  # turns are small, so signs do not jump
    for path, values in (("translation", poses[:, :3, 3]), ("rotation", quats)):
        if (values == values[0]).all():
            continue
        target = {"node": node, "path": path}
        animation["channels"].append({"sampler": len(animation["samplers"]), "target": target})
        animation["samplers"].append(
            {
                "input": animation["samplers"][0]["input"],
                "output": writer.accessor(values.astype(np.float32)),
                "interpolation": "LINEAR",
            }
        )
