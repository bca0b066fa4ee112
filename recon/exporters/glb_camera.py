"""The camera of the video in glTF, and the motion of a node in front of it.

glTF's cameras look along −Z with +Y up, as those of this project, and have the principal point in
the middle of their image. Letters: T frames.
"""

from __future__ import annotations

import math

import numpy as np

from recon.exporters.gltf import GlbWriter
from recon.exporters.root_motion import CAMERA_NAME, clipping_range, pose_quats
from recon.grid.cameras import Camera


def add_camera(writer: GlbWriter, camera: Camera, size: float) -> None:
    """Append a camera to the nodes of a document and to its scene.

    Args:
        writer: its document has `nodes` and a scene.
        camera: a camera in the axes of the file, with its principal point in the middle.
        size: size of the object, which determines the clipping planes.
    """
    near, far = clipping_range(size)
    perspective = {
        "aspectRatio": camera.width / camera.height,
        "yfov": 2 * math.atan(camera.height / 2 / camera.fl_y),
        "znear": near,
        "zfar": far,
    }
    document = writer.json
    document["cameras"] = [{"name": CAMERA_NAME, "type": "perspective", "perspective": perspective}]
    document["scenes"][0]["nodes"].append(len(document["nodes"]))
    pose = camera.T_world_camera
    document["nodes"].append(
        {
            "name": CAMERA_NAME,
            "camera": 0,
            "translation": pose[:3, 3].tolist(),
            "rotation": pose_quats(pose[None])[0].tolist(),
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
    moved = {"translation": poses[:, :3, 3], "rotation": pose_quats(poses)}
    for path, values in moved.items():
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
