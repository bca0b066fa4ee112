"""A frame of a baked asset in the layout of the mesh kernels (`recon.native.mesh`)."""

from __future__ import annotations

import numpy as np

from generation.curation.render.baked_asset import BakedAsset, MeshFrame, Surface
from recon.errors import InputError
from recon.native.mesh import SURFACE, NativeMesh


def native_mesh(asset: BakedAsset, frame: MeshFrame) -> NativeMesh:
    """Check the indices of a frame and lay it out for the kernels.

    Args:
        asset: provides surfaces and textures.
        frame: one of the asset's frames.

    Raises:
        InputError: An index points outside of its table, or a texture is empty.
    """
    _check_indices(asset, frame)
    return NativeMesh(
        frame.vertices,
        frame.triangles,
        frame.normals,
        frame.uv,
        frame.colours,
        frame.surface,
        np.array([_row(surface) for surface in asset.surfaces], SURFACE),
        asset.textures,
    )


def _row(surface: Surface) -> tuple:
    def index(texture: int | None) -> int:
        return -1 if texture is None else texture

    return (
        surface.base_colour, surface.emission,
        -1.0 if surface.alpha_cutoff is None else surface.alpha_cutoff,
        index(surface.base_texture), surface.base_uv, index(surface.emission_texture),
        surface.emission_uv, index(surface.alpha_texture), surface.uses_colours, surface.unlit,
    )  # fmt: skip


def _check_indices(asset: BakedAsset, frame: MeshFrame) -> None:
    triangles, sets = len(frame.triangles), len(frame.uv)
    shapes = {
        "normals": (triangles, 3, 3), "uv": (sets, triangles, 3, 2),
        "colours": (triangles, 3, 4), "surface": (triangles,),
    }  # fmt: skip
    for name, expected in shapes.items():
        found = getattr(frame, name).shape
        if found != expected:
            raise InputError(f"{name} of {triangles} triangles: shape {expected}, found {found}")
    textures = len(asset.textures)
    used = [
        (frame.triangles, len(frame.vertices), "vertex"),
        (frame.surface, len(asset.surfaces), "surface"),
    ]
    for surface in asset.surfaces:
        named = (surface.base_texture, surface.emission_texture, surface.alpha_texture)
        used.append((np.array([i for i in named if i is not None]), textures, "texture"))
        if any(i is not None for i in named):
            used.append((np.array([surface.base_uv, surface.emission_uv]), sets, "set of uv"))
    for indices, count, what in used:
        if indices.size and not 0 <= indices.min() <= indices.max() < count:
            raise InputError(f"an index of a {what} is outside of the {count} there are")
    if any(t.ndim != 3 or t.shape[2] != 4 or t.size == 0 for t in asset.textures):
        raise InputError("a texture is empty or not RGBA")
