"""Python's side of the kernel that draws meshes, `recon/native/src/mesh_render.cpp`.

Letters: M triangles, N vertices, K shadow maps of S × S texels, V views, H × W pixels. A grid of
places is an image with s × s places in each pixel and a margin around. The structures mirror those
of the kernel field by field. What it does not know: which light, which filter.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np

from generation.curation.render.baked_asset import BakedAsset, MeshFrame, Surface
from recon.errors import InputError
from recon.grid import Camera
from recon.native.library import kernels

SURFACE = np.dtype(
    [
        ("base", "f4", 4), ("emission", "f4", 3), ("alpha_cutoff", "f4"),
        ("base_texture", "i4"), ("base_uv", "i4"), ("emission_texture", "i4"),
        ("emission_uv", "i4"), ("alpha_texture", "i4"), ("uses_colours", "i4"), ("unlit", "i4"),
    ]
)  # fmt: skip
TEXTURE = np.dtype([("texels", "u8"), ("height", "i4"), ("width", "i4")])
_POINTER = ctypes.c_void_p


class _Mesh(ctypes.Structure):
    _fields_ = [
        *((name, _POINTER) for name in ("vertices", "triangles", "normals", "uv", "colours")),
        *((name, _POINTER) for name in ("surface", "surfaces", "textures")),
        ("vertex_count", ctypes.c_int32),
        ("triangle_count", ctypes.c_int32),
    ]  # fmt: skip


class _ShadowMaps(ctypes.Structure):
    _fields_ = [
        ("T_map_world", _POINTER),
        ("directions", _POINTER),
        ("nearness", _POINTER),
        ("count", ctypes.c_int32),
        ("size", ctypes.c_int32),
    ]


class _Light(ctypes.Structure):
    _fields_ = [("ambient", ctypes.c_float), ("sun", ctypes.c_float)]


class _Filter(ctypes.Structure):
    _fields_ = [
        ("subsamples", ctypes.c_int32),
        ("margin", ctypes.c_int32),
        ("taps", ctypes.c_int32),
        ("weights", _POINTER),
    ]


class ShadowMaps(NamedTuple):
    """What the sun sees from K directions of its disc.

    Attributes:
        T_map_world: from the world to texels across, texels down and nearness in texels, float32,
            [K, 3, 4].
        directions: to the sun, unit, float32, [K, 3].
        nearness: of the nearest surface in each texel, −3e38 where there is none, float32,
            [K, S, S].
    """

    T_map_world: np.ndarray
    directions: np.ndarray
    nearness: np.ndarray


class PixelFilter(NamedTuple):
    """How s × s places in each pixel, and some around it, become a pixel.

    Attributes:
        subsamples: s.
        margin: places beyond each side of a pixel that count for it, and beyond the image.
        weights: along one axis, their sum is 1, float32, [s + 2 · margin].
    """

    subsamples: int
    margin: int
    weights: np.ndarray


class Visible(NamedTuple):
    """What is seen at the centres of pixels.

    Attributes:
        triangle: index, −1 where there is nothing, int32, [H, W].
        weights: shares of its corners, 0 where there is nothing, float32, [H, W, 3].
        depth: along the optical axis, 0 where there is nothing, float32, [H, W].
        back: whether the back of the triangle is seen, bool, [H, W].
    """

    triangle: np.ndarray
    weights: np.ndarray
    depth: np.ndarray
    back: np.ndarray


class DrawableMesh:
    """One frame of an asset as the kernel reads it; keeps the memory alive that it points to.

    Args:
        asset: its surfaces and textures are used.
        frame: one of the asset's frames.

    Raises:
        InputError: an index points outside of its table, or a texture is empty.
        BackendError: the kernels were not built.
    """

    def __init__(self, asset: BakedAsset, frame: MeshFrame):
        _check_indices(asset, frame)
        textures = [np.ascontiguousarray(texture, np.uint8) for texture in asset.textures]
        arrays = {
            "vertices": np.ascontiguousarray(frame.vertices, np.float32),
            "triangles": np.ascontiguousarray(frame.triangles, np.int32),
            "normals": np.ascontiguousarray(frame.normals, np.float32),
            "uv": np.ascontiguousarray(frame.uv, np.float32),
            "colours": np.ascontiguousarray(frame.colours, np.float32),
            "surface": np.ascontiguousarray(frame.surface, np.int32),
            "surfaces": np.array([_row(surface) for surface in asset.surfaces], SURFACE),
            "textures": np.array([(t.ctypes.data, *t.shape[:2]) for t in textures], TEXTURE),
        }
        self._alive = (arrays, textures)
        self._mesh = _Mesh(
            *(array.ctypes.data for array in arrays.values()),
            len(frame.vertices),
            len(frame.triangles),
        )

    def shadow_nearness(self, T_map_world: np.ndarray, size: int) -> np.ndarray:
        """Depth maps for `ShadowMaps`, float32, [K, size, size].

        What is partly transparent covers as many texels as light it stops.

        Args:
            T_map_world: as there, [K, 3, 4].
            size: S.
        """
        matrices = np.ascontiguousarray(T_map_world, np.float32)
        nearness = np.empty((len(matrices), size, size), np.float32)
        kernels().function("mesh_shadow_maps")(
            ctypes.byref(self._mesh), len(matrices), size, _address(matrices), _address(nearness)
        )
        return nearness

    def images(
        self,
        T_grid_world: np.ndarray,
        shape: tuple[int, int],
        pixel_filter: PixelFilter,
        shadows: ShadowMaps,
        ambient: float,
        sun: float,
    ) -> np.ndarray:
        """Draws V views: sRGB with straight alpha, uint8, [V, H, W, 4].

        Args:
            T_grid_world: of `grid_from_world` for the filter's grid, [V, 3, 4].
            shape: H, W.
            pixel_filter: from places to pixels.
            shadows: of this mesh.
            ambient: as in `Light`.
            sun: as in `Light`.
        """
        matrices = np.ascontiguousarray(T_grid_world, np.float64)
        weights = np.ascontiguousarray(pixel_filter.weights, np.float32)
        maps = [np.ascontiguousarray(array, np.float32) for array in shadows]
        images = np.empty((len(matrices), *shape, 4), np.uint8)
        kernels().function("mesh_images")(
            ctypes.byref(self._mesh),
            ctypes.byref(_ShadowMaps(*(m.ctypes.data for m in maps), *maps[2].shape[:2])),
            ctypes.byref(_Light(ambient, sun)),
            ctypes.byref(_Filter(*pixel_filter[:2], len(weights), weights.ctypes.data)),
            len(matrices), *shape, _address(matrices), _address(images),
        )  # fmt: skip
        return images

    def visible(self, camera: Camera) -> Visible:
        """What a camera sees; alpha below one half is not there."""
        shape = camera.height, camera.width
        seen = Visible(
            np.empty(shape, np.int32),
            np.zeros((*shape, 3), np.float32),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.bool_),
        )
        kernels().function("mesh_visibility")(
            ctypes.byref(self._mesh),
            *shape,
            _address(grid_from_world(camera)),
            *map(_address, seen),
        )
        return seen


def grid_from_world(camera: Camera, subsamples: int = 1, margin: int = 0) -> np.ndarray:
    """From the world to (X, Y, Z) with places X/Z, Y/Z and depth Z, float64, [3, 4].

    Args:
        camera: of the image.
        subsamples: s, places along a pixel.
        margin: places around the image.
    """
    K = camera.K
    K[:2] *= subsamples
    K[:2, 2] += margin
    return K @ camera.viewmat[:3]


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


def _address(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
