"""Bindings of the triangle mesh kernels in `recon/native/src/mesh_render.cpp`, without torch.

Letters: M triangles, N vertices, U sets of texture coordinates, K shadow maps of S × S texels,
V views, H × W pixels. A sample grid is an image with s × s samples per pixel and a margin around
it. The ctypes structures mirror those of the kernel field by field.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recon.grid import Camera
from recon.native.library import kernels

SURFACE = np.dtype(
    [
        ("base", "f4", 4), ("emission", "f4", 3), ("alpha_cutoff", "f4"),
        ("base_texture", "i4"), ("base_uv", "i4"), ("emission_texture", "i4"),
        ("emission_uv", "i4"), ("alpha_texture", "i4"), ("uses_colors", "i4"), ("unlit", "i4"),
        ("double_sided", "i4"),
    ]
)  # fmt: skip
OPAQUE_SURFACE = np.array([((1, 1, 1, 1), (0, 0, 0), -1, -1, 0, -1, 0, -1, 0, 0, 1)], SURFACE)
_TEXTURE = np.dtype([("texels", "u8"), ("height", "i4"), ("width", "i4")])
_POINTER = ctypes.c_void_p


class _Mesh(ctypes.Structure):
    _fields_ = [
        *((name, _POINTER) for name in ("vertices", "triangles", "normals", "uv", "colors")),
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


class _Crossings(ctypes.Structure):
    _fields_ = [
        (name, _POINTER)
        for name in ("pixel", "triangle", "depth", "winding", "shown", "normal", "color")
    ]


class ShadowMaps(NamedTuple):
    """Depth maps seen from K directions of the sun's disc.

    Attributes:
        T_map_world: transform from world coordinates to texel column, texel row and nearness in
            texels, float32, [K, 3, 4].
        directions: unit vectors to the sun, float32, [K, 3].
        nearness: nearness of the first surface in each texel, −3e38 where there is none, float32,
            [K, S, S].
    """

    T_map_world: np.ndarray
    directions: np.ndarray
    nearness: np.ndarray


NO_SHADOWS = ShadowMaps(
    np.zeros((0, 3, 4), np.float32), np.zeros((0, 3), np.float32), np.zeros((0, 1, 1), np.float32)
)  # for a mesh without normals


class PixelFilter(NamedTuple):
    """Separable reconstruction filter from samples to pixels.

    Attributes:
        subsamples: samples along a pixel, s.
        margin: samples beyond each side of a pixel, and of the image, that contribute.
        weights: filter weights along one axis, which sum to 1, float32, [s + 2 · margin].
    """

    subsamples: int
    margin: int
    weights: np.ndarray


class Visibility(NamedTuple):
    """The nearest triangle at each pixel center.

    Attributes:
        triangle: triangle index, −1 where there is none, int32, [H, W].
        weights: perspective-correct barycentric coordinates, 0 where there is no triangle,
            float32, [H, W, 3].
        depth: distance along the optical axis, 0 where there is no triangle, float32, [H, W].
        back: whether the back of the triangle is visible, bool, [H, W].
    """

    triangle: np.ndarray
    weights: np.ndarray
    depth: np.ndarray
    back: np.ndarray


class Crossings(NamedTuple):
    """The L crossings of surfaces with the rays through pixel centers, sorted along each ray.

    Attributes:
        pixel: row · W + column, ascending, int32, [L].
        triangle: index of the triangle, int32, [L].
        depth: distance along the optical axis, float32, [L].
        winding: 1 where the ray meets the triangle's front, −1 where it meets its back, int8, [L].
        shown: whether images show the side that the ray meets; false for the backs of single-sided
            surfaces, bool, [L].
        normal: unit shading normal on the triangle's front, world frame, float32, [L, 3].
        color: shaded color of the triangle's front, sRGB, uint8, [L, 3].
    """

    pixel: np.ndarray
    triangle: np.ndarray
    depth: np.ndarray
    winding: np.ndarray
    shown: np.ndarray
    normal: np.ndarray
    color: np.ndarray


class NativeMesh:
    """A triangle mesh in the kernel's memory layout; owns the arrays that the kernel reads.

    Indices are not checked: an index out of range reads memory out of bounds.

    Args:
        vertices: world coordinates, [N, 3].
        triangles: vertex indices, [M, 3].
        normals: shading normals of the corners, [M, 3, 3]; `crossings` needs them, and without them
            `images` are not shaded: base colors and emission are radiances.
        uv: texture coordinates of the corners, [U, M, 3, 2].
        colors: linear RGBA of the corners, [M, 3, 4].
        surface: index of each triangle's surface, [M]; None: all have the first one.
        surfaces: materials, of dtype `SURFACE`.
        textures: sRGB with straight alpha, uint8, [height, width, 4] each.

    Raises:
        BackendError: By the first method that is called, if the kernels were not built.
    """

    def __init__(
        self,
        vertices: np.ndarray,
        triangles: np.ndarray,
        normals: np.ndarray | None = None,
        uv: np.ndarray | None = None,
        colors: np.ndarray | None = None,
        surface: np.ndarray | None = None,
        surfaces: np.ndarray = OPAQUE_SURFACE,
        textures: Sequence[np.ndarray] = (),
    ):
        texels = [np.ascontiguousarray(texture, np.uint8) for texture in textures]
        surface = np.zeros(len(triangles)) if surface is None else surface
        arrays = [
            np.ascontiguousarray(vertices, np.float32),
            np.ascontiguousarray(triangles, np.int32),
            *(None if a is None else np.ascontiguousarray(a, np.float32)
              for a in (normals, uv, colors)),
            np.ascontiguousarray(surface, np.int32),
            np.ascontiguousarray(surfaces, SURFACE),
            np.array([(t.ctypes.data, *t.shape[:2]) for t in texels], _TEXTURE),
        ]  # fmt: skip
        self._alive = (arrays, texels)
        pointers = (None if array is None else array.ctypes.data for array in arrays)
        self._mesh = _Mesh(*pointers, len(vertices), len(triangles))

    def visible(self, T_image_world: np.ndarray, height: int, width: int) -> Visibility:
        """Find the nearest triangle at each pixel center.

        Surfaces with alpha < 0.5 and the backs of single-sided ones are skipped.

        Args:
            T_image_world: `image_from_world` of a camera, [3, 4].
            height: image height H in pixels.
            width: image width W in pixels.
        """
        seen = Visibility(
            np.empty((height, width), np.int32),
            np.zeros((height, width, 3), np.float32),
            np.zeros((height, width), np.float32),
            np.zeros((height, width), np.bool_),
        )
        matrix = np.ascontiguousarray(T_image_world, np.float64)
        kernels().function("mesh_visibility")(
            ctypes.byref(self._mesh), height, width, _address(matrix), *map(_address, seen)
        )
        return seen

    def shadow_nearness(self, T_map_world: np.ndarray, size: int) -> np.ndarray:
        """Render depth maps for `ShadowMaps`, float32, [K, size, size].

        A translucent surface covers the fraction of texels that equals its opacity.

        Args:
            T_map_world: as in `ShadowMaps`, [K, 3, 4].
            size: width and height S of the maps in texels.
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
        """Render shaded views: sRGB with straight alpha, uint8, [V, H, W, 4].

        Args:
            T_grid_world: `image_from_world` of each view for the filter's sample grid, [V, 3, 4].
            shape: height and width in pixels.
            pixel_filter: filter from samples to pixels.
            shadows: shadow maps of this mesh.
            ambient: irradiance of the ambient light.
            sun: irradiance of the sun.
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

    def crossings(
        self,
        T_image_world: np.ndarray,
        height: int,
        width: int,
        shadows: ShadowMaps,
        ambient: float,
        sun: float,
    ) -> Crossings:
        """Find all crossings of the rays through pixel centers; alpha < 0.5 is skipped.

        Each ray enters a closed mesh as often as it leaves it: one through an edge that two
        triangles have in common crosses one of them, or enters and leaves at a silhouette.
        Triangles share an edge if its ends have the same positions.

        Args:
            T_image_world: `image_from_world` of a camera, [3, 4].
            height: image height H in pixels.
            width: image width W in pixels.
            shadows: shadow maps of this mesh.
            ambient: irradiance of the ambient light.
            sun: irradiance of the sun.
        """
        assert self._mesh.normals is not None
        matrix = np.ascontiguousarray(T_image_world, np.float64)
        maps = [np.ascontiguousarray(array, np.float32) for array in shadows]
        find = kernels().function("mesh_crossings", ctypes.c_int64)
        capacity = 8 * height * width
        while True:
            found = Crossings(
                np.empty(capacity, np.int32),
                np.empty(capacity, np.int32),
                np.empty(capacity, np.float32),
                np.empty(capacity, np.int8),
                np.empty(capacity, np.bool_),
                np.empty((capacity, 3), np.float32),
                np.empty((capacity, 3), np.uint8),
            )
            count = find(
                ctypes.byref(self._mesh),
                ctypes.byref(_ShadowMaps(*(m.ctypes.data for m in maps), *maps[2].shape[:2])),
                ctypes.byref(_Light(ambient, sun)),
                height, width, _address(matrix), ctypes.c_int64(capacity),
                ctypes.byref(_Crossings(*(array.ctypes.data for array in found))),
            )  # fmt: skip
            if count <= capacity:
                return Crossings(*(array[:count] for array in found))
            capacity = count


def image_from_world(camera: Camera, subsamples: int = 1, margin: int = 0) -> np.ndarray:
    """Return the projection from the world to homogeneous image coordinates, float64, [3, 4].

    A point maps to (X, Y, Z): pixel or sample position X/Z, Y/Z, and depth Z.

    Args:
        camera: camera of the image.
        subsamples: samples along a pixel, s.
        margin: samples around the image.
    """
    K = camera.K
    K[:2] *= subsamples
    K[:2, 2] += margin
    return K @ camera.viewmat[:3]


def _address(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
