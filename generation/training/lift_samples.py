"""Samples for the training of `lift`: images of baked assets with the layers along their rays.

A sample shows one frame of an asset from a random side, deformed, rotated, scaled and lit at
random. Half of the samples are mirror images of the other half. Letters: S pixels on a side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from generation.curation.render.baked_asset import BakedAsset, MeshFrame
from generation.curation.render.fast_renderer import (
    blackman_harris,
    draw_shadow_maps,
    native_mesh,
)
from generation.curation.render.settings import DISTANCE, FOV_DEG, Light
from generation.surface_layers import SurfaceLayers, solid_layers
from generation.training.lift_augmentation import (
    deformed,
    degraded,
    painted,
    recolored,
    tinted,
)
from recon.grid import orbit_camera
from recon.native.mesh import image_from_world

SUBPIXELS = 3  # samples along a pixel of an image
SHADOW_MAPS, SHADOW_SIZE = 4, 160


@dataclass(frozen=True)
class LiftSampling:
    """Ranges of the random numbers of a sample.

    Attributes:
        size: side of the images in pixels, S.
        stretch: maximum factor of the random stretch along y and z; along x, its power of 1.5.
        strain: maximum strain of each wave of the random deformation, in [0, 1).
        tilt_deg: standard deviation of the rotation about the horizontal axes.
        scales: smallest and largest factor of the asset's size; the asset has radius 0.8 at 1.
        elevations_deg: lowest and highest elevation of the camera.
        painted: share of samples with a random pattern on the surfaces.
        tinted: share of samples with random tints of the materials.
        recolored: share of samples with random colors.
        degraded: share of samples with a blurred, noisy or badly masked image.
    """

    size: int = 128
    stretch: float = 1.35
    strain: float = 0.25
    tilt_deg: float = 5.0
    scales: tuple[float, float] = (0.8, 1.1)
    elevations_deg: tuple[float, float] = (-10.0, 30.0)
    painted: float = 0.3
    tinted: float = 0.3
    recolored: float = 0.6
    degraded: float = 0.4


class LiftSample(NamedTuple):
    """One view of one frame.

    Attributes:
        image: sRGB with straight alpha, uint8, [S, S, 4].
        depth: depths of the layers minus the camera's distance, 0 outside, float32, [4, S, S].
        color: colors of the layers, sRGB, uint8, [4, S, S, 3].
        mask: whether the pixel's ray meets the object, bool, [S, S].
        gap: whether the ray meets two parts, bool, [S, S].
        yaw: direction that the asset's front faces, counter-clockwise seen from above, radians; 0
            faces the camera, π/2 the right of the image; NaN if it has no front.
        elevation: elevation of the camera, radians.
    """

    image: np.ndarray
    depth: np.ndarray
    color: np.ndarray
    mask: np.ndarray
    gap: np.ndarray
    yaw: np.float32
    elevation: np.float32


def draw_sample(
    clips: Sequence[BakedAsset],
    sampling: LiftSampling,
    rng: np.random.Generator,
    *,
    has_front: bool = True,
) -> LiftSample:
    """Draw a random view of a random frame of one of the clips of an asset.

    Args:
        clips: clips of one asset.
        sampling: ranges of the random numbers.
        rng: source of all random numbers.
        has_front: whether the asset has a front, from which its yaw is measured.
    """
    asset = clips[rng.integers(len(clips))]
    frame = asset.frames[rng.integers(len(asset.frames))]
    yaw, elevation = rng.uniform(-math.pi, math.pi), rng.uniform(*sampling.elevations_deg)
    scale = rng.uniform(*sampling.scales)
    moved = deformed(frame, sampling.strain, rng)
    moved = _moved(moved, _random_matrix(sampling, yaw, scale, rng), rng)
    if rng.uniform() < sampling.tinted:
        asset = replace(asset, surfaces=tuple(tinted(each, rng) for each in asset.surfaces))
    if rng.uniform() < sampling.painted:
        moved = painted(moved, rng)
        asset = replace(asset, surfaces=tuple(replace(s, uses_colors=True) for s in asset.surfaces))
    light, size = _random_light(rng), sampling.size
    camera = orbit_camera(0.0, elevation, DISTANCE, FOV_DEG, size, size)
    mesh = native_mesh(asset, moved)
    shadows = draw_shadow_maps(mesh, moved.vertices, light, SHADOW_SIZE, SHADOW_MAPS)
    pixel_filter = blackman_harris(SUBPIXELS)
    image = mesh.images(
        image_from_world(camera, *pixel_filter[:2])[None],
        (size, size),
        pixel_filter,
        shadows,
        light.ambient,
        light.sun,
    )[0]
    layers = solid_layers(
        mesh.crossings(
            image_from_world(camera), size, size, shadows, light.ambient, light.sun
        ),
        size,
        size,
    )  # fmt: skip
    sample = _sample(image, layers, yaw if has_front else math.nan, math.radians(elevation))
    if rng.uniform() < sampling.recolored:
        image, color = recolored([sample.image, sample.color], rng)
        sample = sample._replace(image=image, color=color)
    if rng.uniform() < sampling.degraded:
        sample = sample._replace(image=degraded(sample.image, rng))
    return sample


def mirrored(sample: LiftSample) -> LiftSample:
    """Return the sample as seen in a mirror."""
    return sample._replace(
        image=sample.image[:, ::-1],
        depth=sample.depth[..., ::-1],
        color=sample.color[:, :, ::-1],
        mask=sample.mask[:, ::-1],
        gap=sample.gap[:, ::-1],
        yaw=np.float32(-sample.yaw),
    )


def _sample(image: np.ndarray, layers: SurfaceLayers, yaw: float, elevation: float) -> LiftSample:
    depth = np.where(layers.mask, layers.depth - np.float32(DISTANCE), np.float32(0))
    return LiftSample(
        image,
        depth,
        layers.color,
        layers.mask,
        layers.gap,
        np.float32(yaw),
        np.float32(elevation),
    )


def _random_matrix(
    sampling: LiftSampling, yaw: float, scale: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a random stretch, followed by the yaw, a tilt and the scale, [3, 3]."""
    factors = np.exp(rng.uniform(-1, 1, 3) * math.log(sampling.stretch))
    # Across (x) an asset is stretched partly like along its length (y).
    factors[0] = factors[1] ** rng.uniform(0.3, 1) * factors[0] ** 0.5
    pitch, roll = np.radians(rng.normal(0, sampling.tilt_deg, 2))
    turn = Rotation.from_euler("XYZ", [pitch, roll, yaw]).as_matrix()
    return scale * turn @ np.diag(factors)


def _moved(frame: MeshFrame, matrix: np.ndarray, rng: np.random.Generator) -> MeshFrame:
    """Apply a linear map, then shrink the frame into the ball of the map's scale.

    The center of the ball is that of the whole clip or of the frame, and a little beside it.
    """
    scale = abs(np.linalg.det(matrix)) ** (1 / 3)
    vertices = frame.vertices @ matrix.T.astype(np.float32)
    center = (vertices.min(0) + vertices.max(0)) / 2 if rng.uniform() < 0.5 else 0.0
    vertices -= (center + rng.normal(0, 0.02, 3)).astype(np.float32)
    radius = float(np.sqrt((vertices**2).sum(1).max()))
    vertices *= min(1.0, 0.85 * scale / max(radius, 1e-6))
    normals = frame.normals @ np.linalg.inv(matrix).astype(np.float32)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    return replace(frame, vertices=vertices, normals=normals)


def _random_light(rng: np.random.Generator) -> Light:
    """Return a light that mostly comes from the camera's side and from above."""
    azimuth = rng.normal(-0.6, 0.9) if rng.uniform() < 0.85 else rng.uniform(-math.pi, math.pi)
    height = math.radians(rng.uniform(15, 75))
    direction = (
        -math.sin(azimuth) * math.cos(height),
        math.cos(azimuth) * math.cos(height),
        -math.sin(height),
    )
    ambient = rng.uniform(0.35, 1.0)
    return Light(ambient, rng.uniform(0.2, 1.4) * (1.6 - ambient) * 1.6, direction)
