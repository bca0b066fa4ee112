"""Fast renderer: a z-buffer rasterizer that approximates Cycles' images of a baked asset.

Each pixel has s × s subpixels. They are shaded like the Cycles renders: Lambertian surfaces with
emission, direct light only, a sun with soft shadows (shadow maps from points of its disc), and
Cycles' pixel filter. Ray tracing is slower: Embree, through its Python package, casts 4 million
rays per second on one core, and a 128² image with 16 samples takes 262 144 rays, 65 ms, without
shadow rays.

Letters: V views, H × W pixels, s subpixels along a pixel, K shadow maps of S × S texels,
N vertices, M triangles. Coordinates are world coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from generation.curation.render.baked_asset import BakedAsset, MeshFrame, Surface
from generation.curation.render.settings import Light
from recon.errors import InputError
from recon.grid import Camera
from recon.native.mesh import (
    SURFACE,
    Crossings,
    NativeMesh,
    PixelFilter,
    ShadowMaps,
    image_from_world,
)

FILTER_RADIUS = 1.5  # pixels; Cycles' width of 1.5 extends that far to each side
_FILTER_AREA = 2.25  # effective number of pixels that the filter averages, by variance
_SHADOW_TEXELS = 3  # per pixel of an image's side
_SHADOW_SIZES = (192, 1024)
_MAX_SUBPIXELS = 16384  # along a side; a thread needs 8 bytes for each
SHADOW_MAPS = 16
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


class SurfaceTruth(NamedTuple):
    """The visible surface at pixel centers.

    Attributes:
        depth: depth along the optical axis in world units, 0 for background, float32, [H, W].
        normals: unit shading normals on the visible side, world frame, 0 for background, float32,
            [H, W, 3].
        triangle: index of the triangle in the frame, −1 for background, int32, [H, W].
    """

    depth: np.ndarray
    normals: np.ndarray
    triangle: np.ndarray


class FastRenderer:
    """Renderer of the frames of one asset; see `Light` for the shading.

    Args:
        asset: the asset.
        light: ambient light and sun.
        samples: minimum number of samples per pixel; see `subpixels_along_pixel`.
    """

    def __init__(self, asset: BakedAsset, light: Light, samples: int):
        self._asset = asset
        self._light = light
        self._filter = blackman_harris(subpixels_along_pixel(samples))

    def render(self, frame: int, cameras: Sequence[Camera]) -> np.ndarray:
        """Render one frame: sRGB with straight alpha, uint8, [V, H, W, 4].

        Args:
            frame: index of the frame in the asset.
            cameras: V cameras of one image size.

        Raises:
            InputError: an index of the asset is out of range, or the images are too large for the
                number of samples.
            BackendError: the kernels are not built.
        """
        shape = self._checked_shape(cameras)
        mesh = self._mesh(frame)
        shadows = self._shadows(mesh, frame, shape)
        matrices = np.stack([image_from_world(c, *self._filter[:2]) for c in cameras])
        return mesh.images(
            matrices, shape, self._filter, shadows, self._light.ambient, self._light.sun
        )

    def surface_truth(self, frame: int, camera: Camera) -> SurfaceTruth:
        """Compute depth, normals and triangle indices of one frame in one view.

        Raises:
            InputError: an index of the asset is out of range.
            BackendError: the kernels are not built.
        """
        seen = self._mesh(frame).visible(image_from_world(camera), camera.height, camera.width)
        normals = np.zeros((*seen.triangle.shape, 3), np.float32)
        hit = seen.triangle >= 0
        corners = self._asset.frames[frame].normals[seen.triangle[hit]]
        mixed = np.einsum("pk,pkc->pc", seen.weights[hit], corners)
        mixed /= np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-20)
        normals[hit] = np.where(seen.back[hit, None], -mixed, mixed)
        return SurfaceTruth(seen.depth, normals, seen.triangle)

    def crossings(self, frame: int, cameras: Sequence[Camera]) -> Iterator[Crossings]:
        """Find all surfaces along the rays through the pixel centers of one frame's views.

        Args:
            frame: index of the frame in the asset.
            cameras: V cameras of one image size.

        Yields:
            The crossings of each view, shaded like the images.

        Raises:
            InputError: an index of the asset is out of range, or the images are too large for the
                number of samples.
            BackendError: the kernels are not built.
        """
        shape = self._checked_shape(cameras)
        mesh = self._mesh(frame)
        shadows = self._shadows(mesh, frame, shape)
        light = self._light
        for camera in cameras:
            yield mesh.crossings(
                image_from_world(camera), *shape, shadows, light.ambient, light.sun
            )

    def _shadows(self, mesh: NativeMesh, frame: int, shape: tuple[int, int]) -> ShadowMaps:
        size = int(np.clip(_SHADOW_TEXELS * max(shape), *_SHADOW_SIZES))
        vertices = self._asset.frames[frame].vertices
        if len(vertices) == 0:  # maps without a shadow
            vertices = np.zeros((1, 3), np.float32)
        return draw_shadow_maps(mesh, vertices, self._light, size)

    def _checked_shape(self, cameras: Sequence[Camera]) -> tuple[int, int]:
        shape = cameras[0].height, cameras[0].width
        assert all((camera.height, camera.width) == shape for camera in cameras)
        subpixels = self._filter.subsamples
        if max(shape) * subpixels > _MAX_SUBPIXELS:
            raise InputError(
                f"expected at most {_MAX_SUBPIXELS} subpixels along a side for the fast renderer, "
                f"found {shape[1]} × {shape[0]} pixels with {subpixels}² subpixels each; use fewer "
                "samples, or Cycles"
            )
        return shape

    def _mesh(self, frame: int) -> NativeMesh:
        return native_mesh(self._asset, self._asset.frames[frame])


def subpixels_along_pixel(samples: int) -> int:
    """Return the smallest odd s whose noise after filtering is at most that of random samples.

    An edge between two subpixel centers can move without an effect. With an even s, such a gap
    would be at the pixel's center, where its alpha crosses 1/2.

    Args:
        samples: number of random samples per pixel to match.
    """
    return 2 * math.ceil((math.sqrt(samples / _FILTER_AREA) - 1) / 2) + 1


def blackman_harris(subsamples: int) -> PixelFilter:
    """Return Cycles' pixel filter, sampled at the subpixels of a pixel and its margin."""
    beyond = (FILTER_RADIUS - 0.5) * subsamples
    margin = max(0, int(np.ceil(beyond - 0.5)))
    places = np.arange(-margin, subsamples + margin) + 0.5
    phase = np.pi * ((places / subsamples - 0.5) / FILTER_RADIUS + 1)
    terms = np.array([0.35875, -0.48829, 0.14128, -0.01168])
    weights = np.cos(np.outer(phase, np.arange(4))) @ terms
    return PixelFilter(subsamples, margin, (weights / weights.sum()).astype(np.float32))


def sun_directions(light: Light, count: int = SHADOW_MAPS) -> np.ndarray:
    """Return unit vectors to K points evenly spread over the sun's disc, float64, [K, 3]."""
    axis = -np.asarray(light.direction, np.float64)
    axis /= np.linalg.norm(axis)
    right, up = _across(axis)
    index = np.arange(count)
    radius = np.tan(np.radians(light.angle_deg) / 2) * np.sqrt((index + 0.5) / count)
    angle = index * _GOLDEN_ANGLE  # Fermat's spiral: all points have the same area
    points = axis + radius[:, None] * (np.cos(angle)[:, None] * right + np.sin(angle)[:, None] * up)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def draw_shadow_maps(
    mesh: NativeMesh, vertices: np.ndarray, light: Light, size: int, count: int = SHADOW_MAPS
) -> ShadowMaps:
    """Render shadow maps, each fitted to the whole mesh.

    Args:
        mesh: the shadow caster.
        vertices: vertices of the mesh, [N, 3].
        light: direction and size of the sun.
        size: side S of a shadow map in texels, at least 3.
        count: number of shadow maps K.
    """
    directions = sun_directions(light, count)
    matrices = np.stack([_fit(direction, vertices, size) for direction in directions])
    return ShadowMaps(
        matrices.astype(np.float32),
        directions.astype(np.float32),
        mesh.shadow_nearness(matrices, size),
    )


def _fit(direction: np.ndarray, vertices: np.ndarray, size: int) -> np.ndarray:
    """Return the matrix from world to texels (right, down, towards the sun), [3, 4]."""
    axes = np.stack([*_across(direction), direction])
    seen = vertices @ axes.T.astype(np.float32)
    lower, upper = seen.min(axis=0), seen.max(axis=0)
    scale = (size - 2) / max(float((upper - lower)[:2].max()), 1e-6)
    offset = np.append(1 - scale * lower[:2], 0.0)
    return np.column_stack([scale * axes, offset])


def _across(direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Complete a unit vector to an orthonormal basis."""
    away = np.eye(3)[np.abs(direction).argmin()]  # the least parallel axis
    right = np.cross(away, direction)
    right /= np.linalg.norm(right)
    return right, np.cross(direction, right)


def native_mesh(asset: BakedAsset, frame: MeshFrame) -> NativeMesh:
    """Check the indices of a frame and lay it out for the kernels.

    Args:
        asset: asset of the frame, with its surfaces and textures.
        frame: one of the asset's frames.

    Raises:
        InputError: an index is out of range, or a texture is empty.
    """
    _check_indices(asset, frame)
    return NativeMesh(
        frame.vertices,
        frame.triangles,
        frame.normals,
        frame.uv,
        frame.colors,
        frame.surface,
        np.array([_row(surface) for surface in asset.surfaces], SURFACE),
        asset.textures,
    )


def _row(surface: Surface) -> tuple:
    def index(texture: int | None) -> int:
        return -1 if texture is None else texture

    return (
        surface.base_color, surface.emission,
        -1.0 if surface.alpha_cutoff is None else surface.alpha_cutoff,
        index(surface.base_texture), surface.base_uv, index(surface.emission_texture),
        surface.emission_uv, index(surface.alpha_texture), surface.uses_colors, surface.unlit,
        surface.double_sided,
    )  # fmt: skip


def _check_indices(asset: BakedAsset, frame: MeshFrame) -> None:
    triangles, sets = len(frame.triangles), len(frame.uv)
    shapes = {
        "normals": (triangles, 3, 3), "uv": (sets, triangles, 3, 2),
        "colors": (triangles, 3, 4), "surface": (triangles,),
    }  # fmt: skip
    for name, expected in shapes.items():
        found = getattr(frame, name).shape
        if found != expected:
            raise InputError(
                f"expected {name} of {triangles} triangles with shape {expected}, found {found}; "
                "render the asset again"
            )
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
            raise InputError(
                f"expected {what} indices from 0 to {count - 1}, found {indices.min()} to "
                f"{indices.max()}"
            )
    if any(t.ndim != 3 or t.shape[2] != 4 or t.size == 0 for t in asset.textures):
        raise InputError(
            "expected RGBA textures with at least one pixel, found the shapes "
            f"{[t.shape for t in asset.textures]}"
        )
