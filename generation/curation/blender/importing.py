"""Import of an asset into an empty Blender file.

Each file of an OBJ sequence becomes a group of objects, and each frame shows one of them
(`ObjSequence`). Lights and cameras of the asset are removed; objects that are hidden in the
viewport are also hidden in renders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import bpy

from generation.curation.blender.request import Rejected, Request
from generation.curation.blender.rest_pose import RestPose, recorded_rest_pose

SEQUENCE_FPS = 24.0  # OBJ files have no frame rate


class ObjSequence:
    """Objects of numbered OBJ files, one group per source frame."""

    def __init__(self, groups: list[list[bpy.types.Object]]):
        self._groups = groups

    def __len__(self) -> int:
        return len(self._groups)

    def show(self, frame: float) -> None:
        """Show the group nearest to a source frame and hide the others."""
        nearest = min(max(round(frame), 0), len(self._groups) - 1)
        for index, group in enumerate(self._groups):
            for thing in group:
                thing.hide_render = thing.hide_viewport = index != nearest


class Imported(NamedTuple):
    """An imported asset.

    Attributes:
        format: an `assets.files.AssetFormat`.
        rest: pose of the file.
        sequence: objects of an OBJ sequence; None for other formats.
    """

    format: str
    rest: RestPose
    sequence: ObjSequence | None


def open_asset(asked: Request) -> Imported:
    """Import an asset into an empty file.

    Raises:
        Rejected: Blender cannot read it, or it has no surface.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    try:
        with recorded_rest_pose() as rest:
            sequence = _import_obj_files(asked.obj_files) if asked.obj_files else None
            if sequence is None:
                _IMPORTERS[asked.format](asked.asset)
    except Rejected:
        raise
    except (RuntimeError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise Rejected("import_failed", f"Blender cannot read it ({last[0]})") from error
    _keep_only_visible()
    return Imported(asked.format, rest, sequence)


def attach_loose_texture(path: str) -> bool:
    """Use an image as base color of materials without a texture; return whether any has none."""
    image = bpy.data.images.load(path)
    taken = False
    for material in bpy.data.materials:
        tree = material.node_tree
        if tree is None or any(node.type == "TEX_IMAGE" for node in tree.nodes):
            continue
        for node in tree.nodes:
            if node.type == "BSDF_PRINCIPLED" and not node.inputs["Base Color"].is_linked:
                texture = tree.nodes.new("ShaderNodeTexImage")
                texture.image = image
                tree.links.new(texture.outputs["Color"], node.inputs["Base Color"])
                taken = True
    return taken


def _import_obj_files(paths: list[str]) -> ObjSequence:
    groups = []
    for path in paths:
        before = set(bpy.data.objects)
        bpy.ops.wm.obj_import(filepath=path)
        groups.append([thing for thing in bpy.data.objects if thing not in before])
    return ObjSequence(groups)


def _import_gltf(path: str) -> None:
    # the default, "BLENDER", misplaces the children of bones if the armature is scaled
    bpy.ops.import_scene.gltf(filepath=path, bone_heuristic="TEMPERANCE")


def _import_fbx(path: str) -> None:
    bpy.ops.wm.fbx_import(filepath=path)


def _import_alembic(path: str) -> None:
    bpy.ops.wm.alembic_import(filepath=path, as_background_job=False, set_frame_range=True)


def _import_usd(path: str) -> None:
    bpy.ops.wm.usd_import(filepath=path, set_frame_range=True)


_IMPORTERS: dict[str, Callable[[str], None]] = {
    "glb": _import_gltf,
    "gltf": _import_gltf,
    "fbx": _import_fbx,
    "abc": _import_alembic,
    "usd": _import_usd,
}


def _keep_only_visible() -> None:
    bpy.context.view_layer.update()
    for thing in list(bpy.data.objects):
        if thing.type in ("LIGHT", "CAMERA", "LIGHT_PROBE"):
            bpy.data.objects.remove(thing)
        elif not thing.visible_get():
            thing.hide_render = True
    if not any(_has_surface(thing) for thing in bpy.data.objects):
        raise Rejected("no_triangles", "it has no visible surface")


def _has_surface(thing: bpy.types.Object) -> bool:
    return thing.type in ("MESH", "CURVE", "SURFACE", "META", "FONT") and not thing.hide_render
