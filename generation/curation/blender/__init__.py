"""The code that runs inside Blender: one process per asset, plain files in, plain files out.

    request.json ──▶ importing ──▶ clips ──▶ geometry ──▶ baking   ──▶ baked.npz
                                                     └──▶ cycles   ──▶ PNG files
                                        all of it    ──▶ worker    ──▶ result.json

These modules import only `bpy`, numpy and the standard library, so that any installed Blender can
run them; `render.blender_process` starts them. They write only to the paths in the request.
"""
