"""What runs inside Blender: one process for one asset, plain files in, plain files out.

    request.json ──▶ importing ──▶ clips ──▶ geometry ──▶ baking   ──▶ baked.npz
                                                     └──▶ cycles   ──▶ PNG files
                                        all of it    ──▶ worker    ──▶ result.json

These modules need Blender's Python with its `bpy`, numpy and the standard library, and import
nothing else of this project, so that any Blender program can run them. `blender_process` starts
them and `request` names what they are asked. They never write outside of the folder they are told.
"""
