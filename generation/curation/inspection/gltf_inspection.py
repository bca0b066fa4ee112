"""Looks at a glTF file before Blender opens it: is it whole, sound, moving and not too large?

The cheap questions come first; of the buffers only keyframes, positions and bind matrices are read.
"""

from __future__ import annotations

from pathlib import Path

from generation.curation.inspection.findings import AssetError, Inspection, Limits, Reason
from generation.curation.inspection.gltf_accessors import read_accessors, read_buffer_views
from generation.curation.inspection.gltf_animations import read_animations
from generation.curation.inspection.gltf_document import Entry
from generation.curation.inspection.gltf_files import open_gltf
from generation.curation.inspection.gltf_geometry import (
    check_finite_geometry,
    check_skins,
    count_triangles,
)
from generation.curation.inspection.gltf_images import check_images

READABLE_EXTENSIONS = frozenset(  # those that the importer of Blender 5.0 knows
    {
        "EXT_mesh_gpu_instancing",
        "EXT_texture_webp",
        "KHR_animation_pointer",
        "KHR_draco_mesh_compression",
        "KHR_lights_punctual",
        "KHR_materials_anisotropy",
        "KHR_materials_clearcoat",
        "KHR_materials_emissive_strength",
        "KHR_materials_ior",
        "KHR_materials_pbrSpecularGlossiness",
        "KHR_materials_sheen",
        "KHR_materials_specular",
        "KHR_materials_transmission",
        "KHR_materials_unlit",
        "KHR_materials_variants",
        "KHR_materials_volume",
        "KHR_mesh_quantization",
        "KHR_texture_transform",
    }
)


def inspect_gltf(path: Path, limits: Limits) -> Inspection:
    """What is known of a .glb or .gltf file.

    Raises:
        AssetError: it is refused; see `Reason`.
    """
    file = open_gltf(path, limits)
    _check_extensions(file.document)
    views = read_buffer_views(file)
    accessors = read_accessors(file, views, limits)
    triangles = count_triangles(file.document, accessors, limits)
    animations = read_animations(file.document, accessors)
    check_skins(file.document, accessors)
    check_finite_geometry(file.document, accessors)
    return Inspection(
        triangles=triangles,
        animations=animations,
        missing_textures=check_images(file.document, views, path.parent, limits),
    )


def _check_extensions(document: Entry) -> None:
    required = document.texts("extensionsRequired")
    unreadable = sorted(set(required) - READABLE_EXTENSIONS)
    if unreadable:
        raise AssetError(
            Reason.unsupported, f"it requires {', '.join(unreadable)[:200]}, which Blender lacks"
        )
    undeclared = sorted(set(required) - set(document.texts("extensionsUsed")))
    if undeclared:
        raise AssetError(
            Reason.malformed, f"it requires {', '.join(undeclared)} but does not list it as used"
        )
