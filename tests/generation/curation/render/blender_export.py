"""Export a GLB to the other formats; a test runs this in a separate process with `bpy`.

Arguments: GLB, folder. Writes box.abc, box.usdc, box.fbx into the folder, 25 frames each.
"""

import sys
from pathlib import Path

import bpy


def main(glb: str, folder: str) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=glb)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 0, 24
    target = Path(folder)
    bpy.ops.wm.alembic_export(filepath=str(target / "box.abc"), start=0, end=24)
    bpy.ops.wm.usd_export(filepath=str(target / "box.usdc"), export_animation=True)
    bpy.ops.export_scene.fbx(filepath=str(target / "box.fbx"), bake_anim=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
