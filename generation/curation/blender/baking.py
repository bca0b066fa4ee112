"""Baking of all frames of a clip to arrays, for renderers outside of Blender.

The result is one `.npz`, whose format is described in `render.baked_asset`. Letters: N vertices, M
triangles, U = 2 UV sets: one for base color and alpha, one for emission.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import bpy
import numpy as np

from generation.curation.blender.clips import PlayableClip
from generation.curation.blender.geometry import Placed, placed_meshes, vertices_of
from generation.curation.blender.shading import Described, Product, describe

_FIELDS = ("vertices", "triangles", "normals", "uv", "colors", "surface")


class _Part(NamedTuple):
    """Arrays of one mesh at one frame; names and shapes are those of `baked_asset.MeshFrame`."""

    vertices: np.ndarray
    triangles: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    colors: np.ndarray
    surface: np.ndarray


class Surfaces:
    """Table of the materials in use, in the order of their first use."""

    def __init__(self):
        self._indices: dict[str, int] = {}
        self.described: list[Described] = []
        self.warnings: list[str] = []

    def index(self, material: bpy.types.Material | None) -> int:
        """Return the index of a material, reading it at its first use."""
        name = "" if material is None else material.name
        if name not in self._indices:
            self._indices[name] = len(self.described)
            described = describe(material)
            self.described.append(described)
            if any(p.approximate for p in (described.base, described.alpha, described.emission)):
                self.warnings.append(f"material {name!r} is approximated by the fast renderer")
        return self._indices[name]


def bake(path: str | Path, clip: PlayableClip, source_frames: Sequence[float]) -> list[str]:
    """Write the visible triangles of all frames.

    Args:
        path: output file, `.npz`.
        clip: the animation.
        source_frames: times of the frames in source frames.

    Returns:
        Warnings about approximated materials.
    """
    surfaces = Surfaces()
    arrays: dict[str, np.ndarray] = {}
    latest: dict[str, np.ndarray] = {}
    for number, source_frame in enumerate(source_frames):
        clip.go_to(source_frame)
        parts = [_part(placed, surfaces) for placed in placed_meshes()]
        for name, array in zip(_FIELDS, _joined(parts), strict=True):
            if not np.array_equal(array, latest.get(name, ())):  # store unchanged arrays once
                arrays[f"{name}_{number}"] = latest[name] = array
    textures = _Textures()
    described = [_surface_json(d, textures) for d in surfaces.described]
    arrays |= {f"texture_{i}": texture for i, texture in enumerate(textures.pixels)}
    arrays["surfaces"] = np.array(json.dumps(described))
    arrays["frame_count"] = np.array(len(source_frames))
    arrays["texture_count"] = np.array(len(textures.pixels))
    np.savez(path, allow_pickle=False, **arrays)
    return surfaces.warnings


class _Textures:
    """Table of the images that surfaces use, without duplicates."""

    def __init__(self):
        self._indices: dict[str, int] = {}
        self.pixels: list[np.ndarray] = []

    def index(self, name: str) -> int | None:
        if not name:
            return None
        if name not in self._indices:
            self._indices[name] = len(self.pixels)
            self.pixels.append(_pixels(bpy.data.images[name]))
        return self._indices[name]


def _pixels(image: bpy.types.Image) -> np.ndarray:
    """Return an image, uint8, [height, width, 4]; magenta if it cannot be read, as in Blender."""
    width, height = image.size
    if not image.has_data and not width:
        return np.array([[[255, 0, 255, 255]]], dtype=np.uint8)
    flat = np.empty(width * height * 4, dtype=np.float32)
    image.pixels.foreach_get(flat)
    pixels = flat.reshape(height, width, 4)[::-1]  # Blender's first row is the lowest
    if image.colorspace_settings.name not in ("sRGB",):
        pixels = np.concatenate([_encode_srgb(pixels[..., :3]), pixels[..., 3:]], axis=-1)
    return np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)


def _encode_srgb(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, None)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _part(placed: Placed, surfaces: Surfaces) -> _Part:
    mesh = placed.mesh
    mesh.calc_loop_triangles()
    M = len(mesh.loop_triangles)
    loops = _get(mesh.loop_triangles, "loops", M * 3, np.int32).reshape(M, 3)
    triangles = _get(mesh.loop_triangles, "vertices", M * 3, np.int32).reshape(M, 3)
    slot = _get(mesh.loop_triangles, "material_index", M, np.int32)
    normals = _get(mesh.corner_normals, "vector", len(mesh.loops) * 3, np.float32)
    axes = placed.T_world_object[:3, :3]
    normals = normals.reshape(-1, 3)[loops] @ _inverse_transpose(axes).T
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    materials = [s.material for s in placed.thing.material_slots] or [None]
    used = [surfaces.index(material) for material in materials]
    surface = np.array(used, dtype=np.int32)[slot.clip(0, len(used) - 1)]
    uv, colors = _corner_values(mesh, loops, surface, surfaces)
    if np.linalg.det(axes) < 0:  # mirroring inverts the orientation
        order = [0, 2, 1]
        triangles, normals = triangles[:, order], normals[:, order]
        uv, colors = uv[:, :, order], colors[:, order]
    vertices = vertices_of(placed).astype(np.float32)
    return _Part(vertices, triangles, normals.astype(np.float32), uv, colors, surface)


def _corner_values(mesh, loops, surface, surfaces: Surfaces) -> tuple[np.ndarray, np.ndarray]:
    """Return UV coordinates [2, M, 3, 2] and colors [M, 3, 4] of the triangles' corners."""
    uv = np.zeros((2, len(loops), 3, 2), dtype=np.float32)
    colors = np.ones((len(loops), 3, 4), dtype=np.float32)
    for index in np.unique(surface):
        chosen = surface == index
        described = surfaces.described[index]
        base = described.base if described.base.image else described.alpha
        for target, product in ((uv[0], base), (uv[1], described.emission)):
            if product.image:
                target[chosen] = _coordinates(mesh, product)[loops[chosen]]
        for product, channels in ((described.base, slice(0, 3)), (described.alpha, slice(3, 4))):
            if product.colors:
                of_loops = _corner_colors(mesh, product.colors)
                colors[chosen, :, channels] = of_loops[loops[chosen]][..., channels]
    return uv, colors


def _coordinates(mesh, product: Product) -> np.ndarray:
    layer = mesh.uv_layers.get(product.uv) or mesh.uv_layers.active
    if layer is None:
        return np.zeros((len(mesh.loops), 2), dtype=np.float32)
    uv = _get(layer.uv, "vector", len(mesh.loops) * 2, np.float32).reshape(-1, 2)
    x, y, angle, sx, sy = product.mapping
    scaled = uv * [sx, sy]
    cos, sin = math.cos(angle), math.sin(angle)
    turned = np.stack(
        [cos * scaled[:, 0] - sin * scaled[:, 1], sin * scaled[:, 0] + cos * scaled[:, 1]], axis=1
    )
    return (turned + np.array([x, y])).astype(np.float32)


def _corner_colors(mesh, name: str) -> np.ndarray:
    """Return linear RGBA of each loop; white if the mesh has no such color attribute."""
    attributes = mesh.color_attributes
    layer = attributes.get(name) or attributes.active_color
    if layer is None:
        return np.ones((len(mesh.loops), 4), dtype=np.float32)
    values = _get(layer.data, "color", len(layer.data) * 4, np.float32).reshape(-1, 4)
    if layer.domain == "CORNER":
        return values
    return values[_get(mesh.loops, "vertex_index", len(mesh.loops), np.int32)]


def _joined(parts: Sequence[_Part]) -> tuple[np.ndarray, ...]:
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    triangles = [part.triangles + start for part, start in zip(parts, starts, strict=False)]
    return (
        np.concatenate([part.vertices for part in parts]),
        np.concatenate(triangles).astype(np.int32),
        np.concatenate([part.normals for part in parts]),
        np.concatenate([part.uv for part in parts], axis=1),
        np.concatenate([part.colors for part in parts]),
        np.concatenate([part.surface for part in parts]),
    )


def _surface_json(described: Described, textures: _Textures) -> dict[str, Any]:
    base, alpha, emission = described.base, described.alpha, described.emission
    return {
        "base_color": [*base.factor[:3], alpha.factor[3]],
        "base_texture": textures.index(base.image),
        "base_uv": 0,
        "uses_colors": bool(base.colors or alpha.colors),
        "emission": list(emission.factor[:3]),
        "emission_texture": textures.index(emission.image),
        "emission_uv": 1,
        "alpha_texture": textures.index(alpha.image),
        "alpha_cutoff": alpha.cutoff,
        "unlit": described.unlit,
        "double_sided": described.double_sided,
    }


def _inverse_transpose(axes: np.ndarray) -> np.ndarray:
    return np.linalg.inv(axes).T if abs(np.linalg.det(axes)) > 0 else np.eye(3)


def _get(collection, name: str, count: int, dtype) -> np.ndarray:
    values = np.empty(count, dtype=dtype)
    collection.foreach_get(name, values)
    return values
