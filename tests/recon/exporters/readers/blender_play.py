"""Play a GLB in Blender; run in a separate process with `bpy`.

Arguments: GLB, NPZ, times in seconds …; with PNG=FILE in the environment, a picture of the last
time is rendered. Writes `positions` [T, P, 3] in Blender's axes (+Z up), and the `names` and
`parents` of the armature's bones.
"""

import os
import sys

import bpy
import numpy as np


def main(glb: str, npz: str, *seconds: str) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps = 1000  # so that frames are milliseconds, which the importer rounds to
    bpy.ops.import_scene.gltf(filepath=glb)
    objects = list(scene.objects)
    body = next(one for one in objects if one.type == "MESH" and one.name.startswith("object"))
    armatures = [one for one in objects if one.type == "ARMATURE"]
    positions = []
    for time in seconds:
        frame = 1000 * float(time)
        scene.frame_set(int(frame), subframe=frame - int(frame))
        evaluated = body.evaluated_get(bpy.context.evaluated_depsgraph_get())
        mesh = evaluated.to_mesh()
        points = np.empty(3 * len(mesh.vertices), np.float32)
        mesh.vertices.foreach_get("co", points)
        place = np.array(evaluated.matrix_world)
        positions.append(points.reshape(-1, 3) @ place[:3, :3].T + place[:3, 3])
        evaluated.to_mesh_clear()
    bones = [bone for armature in armatures for bone in armature.data.bones]
    names = [bone.name for bone in bones]
    parents = [bone.parent.name if bone.parent else "" for bone in bones]
    np.savez(npz, positions=np.stack(positions), names=names, parents=parents)
    if "PNG" in os.environ:
        draw(os.environ["PNG"], np.concatenate(positions))


def draw(path: str, points: np.ndarray) -> None:
    """Render the scene from the front with Cycles."""
    scene = bpy.context.scene
    middle, size = points.mean(axis=0), float(np.ptp(points, axis=0).max())
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.location = middle + np.array([0.3, -1.7, 0.4]) * size
    scene.collection.objects.link(camera)
    aim = camera.constraints.new("TRACK_TO")
    aim.target = bpy.data.objects.new("middle", None)
    aim.target.location = middle
    scene.collection.objects.link(aim.target)
    scene.camera = camera
    scene.world = bpy.data.worlds.new("world")
    scene.render.engine, scene.cycles.samples = "CYCLES", 8
    scene.render.resolution_x = scene.render.resolution_y = 400
    scene.view_settings.view_transform = "Standard"
    scene.render.filepath = path
    bpy.ops.render.render(write_still=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
