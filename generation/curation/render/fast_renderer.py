"""Small training images without Blender: the pictures that Cycles makes of a baked asset.

A z-buffer with s × s places in each pixel, shaded place by place under Cycles' own terms: surfaces
that only scatter and emit, no light from one surface to another, a sun with soft shadows, Cycles'
pixel filter. It is a z-buffer because rays cost too much: embree, through its Python package,
casts 4 million rays a second on one core, and one image of 128² pixels with 16 samples takes
262,144 of them, 65 ms, before the first shadow.

Letters: V views, H × W pixels, s places along a pixel. Frame: world. What it does not know: files,
how the asset moves.


----
Soft shadows of the sun: depth maps from points of its disc.

Letters: K directions, S × S texels, N vertices. Frame: world. What it does not know: views; one
set of maps serves all views of a frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from generation.curation.render.baked_asset import BakedAsset
from generation.curation.render.native_mesh import native_mesh
from generation.curation.render.settings import Light
from recon.errors import InputError
from recon.grid import Camera
from recon.native.mesh import NativeMesh, PixelFilter, ShadowMaps, image_from_world

FILTER_RADIUS = 1.5  # pixels: what Cycles calls a width of 1.5 reaches that far to each side
_FILTER_AREA = 2.25  # pixels that the filter takes in, by the variance of what it averages
_SHADOW_TEXELS = 3  # for each pixel of an image's side
_SHADOW_SIZES = (192, 1024)
_MOST_PLACES = 16384  # along a side; a thread takes 8 bytes for each place


class SurfaceTruth(NamedTuple):
    """The surface that is seen at the centres of pixels.

    Attributes:
        depth: along the optical axis, world units, 0 where there is nothing, float32, [H, W].
        normals: as it is shaded, on the side that is seen, unit, world; 0 where there is nothing,
            float32, [H, W, 3].
        triangle: index in the frame, −1 where there is nothing, int32, [H, W].
    """

    depth: np.ndarray
    normals: np.ndarray
    triangle: np.ndarray


class FastRenderer:
    """Draws the frames of one asset; see `Light` for the formula.

    Args:
        asset: what is drawn.
        light: what it is lit by.
        samples: a pixel, at least; see `places_along_pixel`.
    """

    def __init__(self, asset: BakedAsset, light: Light, samples: int):
        self._asset = asset
        self._light = light
        self._filter = blackman_harris(places_along_pixel(samples))

    def render(self, frame: int, cameras: Sequence[Camera]) -> np.ndarray:
        """Images of one frame: sRGB with straight alpha, uint8, [V, H, W, 4].

        Args:
            frame: index in the asset.
            cameras: V of them, all of one image size.

        Raises:
            InputError: the asset refers to something that it does not hold, or the images are too
                large for so many samples.
            BackendError: the kernels were not built.
        """
        shape = self._checked_shape(cameras)
        mesh = self._mesh(frame)
        if len(self._asset.frames[frame].vertices) == 0:
            return np.zeros((len(cameras), *shape, 4), np.uint8)
        size = int(np.clip(_SHADOW_TEXELS * max(shape), *_SHADOW_SIZES))
        shadows = draw_shadow_maps(mesh, self._asset.frames[frame].vertices, self._light, size)
        matrices = np.stack([image_from_world(c, *self._filter[:2]) for c in cameras])
        return mesh.images(
            matrices, shape, self._filter, shadows, self._light.ambient, self._light.sun
        )

    def surface_truth(self, frame: int, camera: Camera) -> SurfaceTruth:
        """Depth, normals and triangles of one frame in one view.

        Raises:
            InputError: the asset refers to something that it does not hold.
            BackendError: the kernels were not built.
        """
        seen = self._mesh(frame).visible(image_from_world(camera), camera.height, camera.width)
        normals = np.zeros((*seen.triangle.shape, 3), np.float32)
        hit = seen.triangle >= 0
        corners = self._asset.frames[frame].normals[seen.triangle[hit]]
        mixed = np.einsum("pk,pkc->pc", seen.weights[hit], corners)
        mixed /= np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-20)
        normals[hit] = np.where(seen.back[hit, None], -mixed, mixed)
        return SurfaceTruth(seen.depth, normals, seen.triangle)

    def _checked_shape(self, cameras: Sequence[Camera]) -> tuple[int, int]:
        shape = cameras[0].height, cameras[0].width
        assert all((camera.height, camera.width) == shape for camera in cameras)
        places = self._filter.subsamples
        if max(shape) * places > _MOST_PLACES:
            raise InputError(
                f"images of {shape[1]} × {shape[0]} pixels with {places}² places in each are too "
                f"large for the fast renderer; expected at most {_MOST_PLACES} places along a "
                "side: take fewer samples, or Cycles"
            )
        return shape

    def _mesh(self, frame: int) -> NativeMesh:
        return native_mesh(self._asset, self._asset.frames[frame])


def places_along_pixel(samples: int) -> int:
    """The smallest odd s with which the filter averages as much as that many random samples.

    Odd, because between two places lies a gap in which an edge can move and nothing changes; with
    an even number it lies at the centre of the pixel, where the alpha of the pixel crosses 1/2.
    """
    return 2 * math.ceil((math.sqrt(samples / _FILTER_AREA) - 1) / 2) + 1


def blackman_harris(subsamples: int) -> PixelFilter:
    """Cycles' pixel filter, sampled at the places of a pixel and its margin."""
    beyond = (FILTER_RADIUS - 0.5) * subsamples
    margin = max(0, int(np.ceil(beyond - 0.5)))
    places = np.arange(-margin, subsamples + margin) + 0.5
    phase = np.pi * ((places / subsamples - 0.5) / FILTER_RADIUS + 1)
    terms = np.array([0.35875, -0.48829, 0.14128, -0.01168])
    weights = np.cos(np.outer(phase, np.arange(4))) @ terms
    return PixelFilter(subsamples, margin, (weights / weights.sum()).astype(np.float32))


MAPS = 16
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


def sun_directions(light: Light, count: int = MAPS) -> np.ndarray:
    """Unit vectors to K points spread evenly over the sun's disc, float64, [K, 3]."""
    axis = -np.asarray(light.direction, np.float64)
    axis /= np.linalg.norm(axis)
    right, up = _across(axis)
    index = np.arange(count)
    radius = np.tan(np.radians(light.angle_deg) / 2) * np.sqrt((index + 0.5) / count)
    angle = index * _GOLDEN_ANGLE  # a sunflower's spiral: every point owns the same area
    points = axis + radius[:, None] * (np.cos(angle)[:, None] * right + np.sin(angle)[:, None] * up)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def draw_shadow_maps(mesh: NativeMesh, vertices: np.ndarray, light: Light, size: int) -> ShadowMaps:
    """Maps that hold all of a mesh, each with the largest scale that does.

    Args:
        mesh: casts the shadows.
        vertices: its vertices, [N, 3].
        light: whose sun it is.
        size: S, at least 3.
    """
    directions = sun_directions(light)
    matrices = np.stack([_fit(direction, vertices, size) for direction in directions])
    return ShadowMaps(
        matrices.astype(np.float32),
        directions.astype(np.float32),
        mesh.shadow_nearness(matrices, size),
    )


def _fit(direction: np.ndarray, vertices: np.ndarray, size: int) -> np.ndarray:
    """World to texels: across, down, and towards the sun in the same unit, [3, 4]."""
    axes = np.stack([*_across(direction), direction])
    seen = vertices @ axes.T.astype(np.float32)
    lower, upper = seen.min(axis=0), seen.max(axis=0)
    scale = (size - 2) / max(float((upper - lower)[:2].max()), 1e-6)
    offset = np.append(1 - scale * lower[:2], 0.0)
    return np.column_stack([scale * axes, offset])


def _across(direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors at right angles to a direction and to each other."""
    away = np.eye(3)[np.abs(direction).argmin()]  # the axis that is least along it
    right = np.cross(away, direction)
    right /= np.linalg.norm(right)
    return right, np.cross(direction, right)
