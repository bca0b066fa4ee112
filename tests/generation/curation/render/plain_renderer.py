"""Reference of the fast renderer: numpy, one triangle at a time, ray-cast shadows.

It shares no code with the kernel but the grid of places, the filter's weights and the directions of
the sun, which have tests of their own. Letters: as in `fast_renderer`; P points.
"""

from __future__ import annotations

import numpy as np

from generation.curation.render.baked_asset import BakedAsset, MeshFrame, Surface
from generation.curation.render.fast_renderer import (
    blackman_harris,
    subpixels_along_pixel,
    sun_directions,
)
from generation.curation.render.settings import Light
from recon.grid import Camera
from recon.native.mesh import image_from_world
from recon.rasterizers.mesh_reference import rasterize_mesh_reference


def render_plainly(
    asset: BakedAsset, frame: int, camera: Camera, light: Light, samples: int
) -> np.ndarray:
    """Render one image, to compare with `FastRenderer.render`, uint8, [H, W, 4]."""
    subsamples, margin, _ = pixel_filter = blackman_harris(subpixels_along_pixel(samples))
    mesh = asset.frames[frame]
    T = image_from_world(camera, subsamples, margin)
    height, width = (n * subsamples + 2 * margin for n in (camera.height, camera.width))
    layers = [
        _draw_triangle(asset, mesh, index, T, height, width, light, camera)
        for index in range(len(mesh.triangles))
    ]
    depth = np.stack([layer[0] for layer in layers])
    color = np.stack([layer[1] for layer in layers])
    film = np.zeros((height, width, 4))
    for index in np.argsort(-depth, axis=0, kind="stable"):  # the farthest first
        over = np.take_along_axis(color, index[None, :, :, None], axis=0)[0]
        film = over + film * (1 - over[..., 3:])
    return _develop(film, pixel_filter.weights, subsamples, camera.height, camera.width)


def _draw_triangle(
    asset: BakedAsset, mesh: MeshFrame, index: int, T: np.ndarray,
    height: int, width: int, light: Light, camera: Camera,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Render depth [height, width] and premultiplied radiance with alpha [height, width, 4]."""
    corners = mesh.vertices[mesh.triangles[index]].astype(np.float64)
    placed = corners @ T[:, :3].T + T[:, 3]
    drawn = rasterize_mesh_reference(placed, np.array([[0, 1, 2]]), height, width)
    flat = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    from_behind = flat @ (camera.position - corners[0]) < 0
    if from_behind and not asset.surfaces[mesh.surface[index]].double_sided:
        return np.full((height, width), np.inf), np.zeros((height, width, 4))
    row, column = np.nonzero(drawn.face >= 0)
    weights = drawn.barycentric[row, column]
    film = np.zeros((height, width, 4))
    flat = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    side = np.sign(flat @ (camera.position - corners[0]))
    film[row, column] = shade(asset, mesh, index, weights, row, column, light, side)
    return np.where(drawn.face >= 0, drawn.depth, np.inf), film


def shade(
    asset: BakedAsset, mesh: MeshFrame, index: int, weights: np.ndarray,
    row: np.ndarray, column: np.ndarray, light: Light, side: float,
) -> np.ndarray:  # fmt: skip
    """Compute premultiplied radiance and alpha of points on one side of a triangle, [P, 4].

    Args:
        asset: the asset.
        mesh: one of its frames.
        index: index of the triangle.
        weights: barycentric coordinates of the points, [P, 3].
        row: row of the sample of each point, [P].
        column: column of the sample of each point, [P].
        light: ambient light and sun.
        side: 1 for the front, −1 for the back.
    """
    surface = asset.surfaces[mesh.surface[index]]
    alpha = _alpha(asset, mesh, index, surface, weights)[:, None]
    emission = np.tile(np.array(surface.emission), (len(weights), 1))
    if surface.emission_texture is not None:
        uv = weights @ mesh.uv[surface.emission_uv, index]
        emission *= _decode(_sample(asset.textures[surface.emission_texture], uv)[:, :3])
    if surface.unlit:
        return np.hstack([alpha * emission, alpha])
    base = np.tile(np.array(surface.base_color[:3]), (len(weights), 1))
    if surface.base_texture is not None:
        uv = weights @ mesh.uv[surface.base_uv, index]
        base *= _decode(_sample(asset.textures[surface.base_texture], uv)[:, :3])
    if surface.uses_colors:
        base *= weights @ mesh.colors[index, :, :3]
    corners = mesh.vertices[mesh.triangles[index]].astype(np.float64)
    normals = side * mesh.normals[index]
    normal = _unit(weights @ normals)
    place = (column * 3242174889 + row * 2447445414) % 2**32  # spreads directions over places
    directions = sun_directions(light)
    towards = directions[place * len(directions) // 2**32]
    facing = np.maximum(0, (normal * towards).sum(axis=1))
    position = weights @ corners
    height = np.maximum(0, np.einsum("pkc,kc->pk", corners - position[:, None], normals))
    lifted = position + np.einsum("pk,pk,kc->pc", weights, height, normals)
    strength = light.ambient * (0.8 + 0.2 * normal[:, 2])
    strength += light.sun / np.pi * facing * _sunlight(asset, mesh, lifted, towards)
    return np.hstack([alpha * (base * strength[:, None] + emission), alpha])


def _alpha(
    asset: BakedAsset, mesh: MeshFrame, index: int, surface: Surface, weights: np.ndarray
) -> np.ndarray:
    alpha = np.full(len(weights), float(surface.base_color[3]))
    if surface.alpha_texture is not None:
        uv = weights @ mesh.uv[surface.base_uv, index]
        alpha *= _sample(asset.textures[surface.alpha_texture], uv)[:, 3]
    if surface.uses_colors:
        alpha *= weights @ mesh.colors[index, :, 3]
    if surface.alpha_cutoff is not None:
        return (alpha >= surface.alpha_cutoff).astype(np.float64)
    return alpha


def _sunlight(
    asset: BakedAsset, mesh: MeshFrame, points: np.ndarray, towards: np.ndarray
) -> np.ndarray:
    """Compute the fraction of the sun that reaches points, by rays against all triangles, [P]."""
    share = np.ones(len(points))
    for index, (a, b, c) in enumerate(mesh.vertices[mesh.triangles].astype(np.float64)):
        across = np.cross(towards, c - a)
        determinant = across @ (b - a)
        safe = np.where(np.abs(determinant) > 1e-12, determinant, np.inf)
        offset = points - a
        u = (offset * across).sum(axis=1) / safe
        turned = np.cross(offset, b - a)
        v = (turned * towards).sum(axis=1) / safe
        distance = turned @ (c - a) / safe
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > 0.01)
        weights = np.stack([1 - u - v, u, v], axis=1)
        surface = asset.surfaces[mesh.surface[index]]
        share[hit] *= 1 - _alpha(asset, mesh, index, surface, weights[hit])
    return share


def _sample(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Sample a texture bilinearly with repetition, first row on top, in [0, 1], [P, 4]."""
    height, width = texture.shape[:2]
    x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    result = np.zeros((len(uv), 4))
    for dy, share_y in ((0, 1 - (y - top)), (1, y - top)):
        for dx, share_x in ((0, 1 - (x - left)), (1, x - left)):
            texels = texture[(top + dy) % height, (left + dx) % width]
            result += (share_x * share_y)[:, None] * texels
    return result / 255


def _develop(
    film: np.ndarray, weights: np.ndarray, subsamples: int, height: int, width: int
) -> np.ndarray:
    """Filter subpixels to pixels, and encode them as sRGB."""
    window = len(weights)
    rows = np.lib.stride_tricks.sliding_window_view(film, window, axis=0)
    windows = np.lib.stride_tricks.sliding_window_view(rows, window, axis=1)
    windows = windows[::subsamples, ::subsamples][:height, :width]
    pixels = np.einsum("hwcij,i,j->hwc", windows, weights, weights)
    alpha = np.round(255 * np.clip(pixels[..., 3:], 0, 1))
    rgb = np.where(alpha > 0, encode(pixels[..., :3] / np.maximum(pixels[..., 3:], 1e-9)), 0)
    return np.concatenate([rgb, alpha], axis=2).astype(np.uint8)


def encode(linear: np.ndarray) -> np.ndarray:
    """Encode linear light as sRGB, in [0, 255], rounded."""
    light = np.clip(linear, 0, 1)
    return np.round(
        255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    )


def _decode(encoded: np.ndarray) -> np.ndarray:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
