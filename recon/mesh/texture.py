"""Texture baking: colors of a mesh from renderings of the Gaussians it was extracted from.

    Gaussians ──V cameras──▶ renderings ──weighted by visibility and angle──▶ texture, vertex colors

Letters: P points, V views, H × W pixels, S texels along a side of the texture.
Frame: world, +Z up; texture coordinates u to the right, v down, both in [0, 1], as in glTF.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import xatlas
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.spatial import KDTree

from recon.gaussians import Gaussians
from recon.grid.cameras import Camera
from recon.mesh.extraction import Mesh
from recon.rasterizers.mesh import camera_points, plane_points, rasterize_mesh
from recon.rendering import render_gaussians

COSINE_POWER = 6  # weight of a view: cosine of its angle to the normal, to this power
COSINE_MIN = 0.2  # views at a more grazing angle blur along the surface
PADDING = 2  # texels between charts, so that texture filtering does not mix them
DEPTH_TOLERANCE = 0.01  # relative to the depth: points this far behind the surface count as visible
ALPHA_MIN = 0.5  # pixels with less alpha show what is behind the object


class RenderedView(NamedTuple):
    """The Gaussians rendered from one camera, with the depth of their mesh.

    Attributes:
        camera: the camera; its image size is H × W.
        rgb: straight (not premultiplied) sRGB in [0, 1], [H, W, 3].
        alpha: alpha in [0, 1], [H, W].
        depth: depth of the mesh along the optical axis, infinite outside of it, [H, W].
        weight: positive weight of this view relative to the others.
    """

    camera: Camera
    rgb: np.ndarray
    alpha: np.ndarray
    depth: np.ndarray
    weight: float


class Unwrapped(NamedTuple):
    """A UV-unwrapped mesh: vertices on a seam between charts are duplicated, P → P'.

    Attributes:
        origin: index of the original mesh vertex of each vertex, [P'].
        faces: triangles as indices of the P' vertices, [F, 3].
        uv: texture coordinates in [0, 1], [P', 2].
    """

    origin: np.ndarray
    faces: np.ndarray
    uv: np.ndarray


def render_view(
    gaussians: Gaussians, mesh: Mesh, camera: Camera, weight: float = 1.0
) -> RenderedView:
    """Render Gaussians and the depth of their mesh from one camera.

    Args:
        gaussians: canonical Gaussians.
        mesh: the surface extracted from them.
        camera: the camera.
        weight: weight of this view relative to others, positive.
    """
    with torch.no_grad():
        image = render_gaussians(gaussians, [camera], background=(0.0, 0.0, 0.0))
    rgb, alpha = image.rgb[0].cpu().numpy(), image.alpha[0].cpu().numpy()
    rgb = np.clip(rgb / np.maximum(alpha, 1e-3)[..., None], 0, 1)
    points = camera_points(mesh.vertices, camera)
    depth = rasterize_mesh(points, mesh.faces, camera.height, camera.width).depth
    return RenderedView(camera, rgb, alpha, depth, weight)


def surface_colors(
    points: np.ndarray, normals: np.ndarray, views: Sequence[RenderedView]
) -> np.ndarray:
    """Blend the colors of the views that see each surface point, weighted by visibility and angle.

    Args:
        points: world coordinates, [P, 3].
        normals: outward unit normals, [P, 3].
        views: V rendered views.

    Returns:
        sRGB in [0, 1], [P, 3]. Points that no view sees get the color of the nearest point that is
        seen, or gray if there is none.
    """
    total, weight = np.zeros((len(points), 3)), np.zeros(len(points))
    for view in views:
        index, colors, confidence = _seen_colors(points, normals, view)
        total[index] += confidence[:, None] * colors
        weight[index] += confidence
    seen = weight > 0
    if not seen.any():
        return np.full((len(points), 3), 0.5)
    colors = np.zeros_like(total)
    colors[seen] = total[seen] / weight[seen, None]
    nearest = KDTree(points[seen]).query(points[~seen])[1]
    colors[~seen] = colors[seen][nearest]
    return colors


def unwrap(mesh: Mesh, size: int) -> Unwrapped:
    """Cut a mesh into charts and pack them into a texture of about `size` × `size` texels."""
    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32))
    options = xatlas.PackOptions()
    options.resolution, options.padding = size, PADDING
    atlas.generate(pack_options=options)
    origin, faces, uv = atlas[0]
    return Unwrapped(origin.astype(np.int64), faces.astype(np.int64), uv)


def bake_texture(
    mesh: Mesh, unwrapped: Unwrapped, views: Sequence[RenderedView], size: int
) -> np.ndarray:
    """Bake the texture of a mesh.

    Args:
        mesh: the canonical mesh, as rendered in `views`.
        unwrapped: result of `unwrap(mesh, size)`.
        views: V rendered views.
        size: width and height S of the texture.

    Returns:
        sRGB, uint8, [S, S, 3]; row 0 is v = 0.
    """
    texels = rasterize_mesh(plane_points(unwrapped.uv * size), unwrapped.faces, size, size)
    covered = texels.face >= 0
    points = texels.interpolate(unwrapped.faces, mesh.vertices[unwrapped.origin])[covered]
    normals = texels.interpolate(unwrapped.faces, mesh.normals()[unwrapped.origin])[covered]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    texture = np.zeros((size, size, 3))
    texture[covered] = surface_colors(points, normals, views)
    return _filled(np.round(255 * texture).astype(np.uint8), covered)


def sample_texture(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Sample a texture [S, S, 3] bilinearly at `uv` [..., 2] in [0, 1]; float64, [..., 3]."""
    pixels = (uv * np.array(texture.shape[1::-1])).reshape(-1, 2)
    return _bilinear(texture.astype(np.float64), pixels).reshape(*uv.shape[:-1], 3)


def _seen_colors(
    points: np.ndarray, normals: np.ndarray, view: RenderedView
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the points visible in a view: indices [M], colors [M, 3] and weights [M]."""
    towards = view.camera.position - points
    cosine = (towards * normals).sum(axis=1) / np.linalg.norm(towards, axis=1)
    facing = np.flatnonzero(cosine > COSINE_MIN)
    pixels, depth = view.camera.project(points[facing])
    pixels = np.nan_to_num(pixels, nan=-1.0)  # behind the camera
    column, row = np.floor(pixels).astype(int).T
    height, width = view.depth.shape
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    column, row = np.where(inside, column, 0), np.where(inside, row, 0)
    alpha = view.alpha[row, column]
    on_surface = depth * (1 - DEPTH_TOLERANCE) < view.depth[row, column]
    seen = inside & on_surface & (alpha > ALPHA_MIN)
    index = facing[seen]
    confidence = view.weight * alpha[seen] * cosine[index] ** COSINE_POWER
    return index, _bilinear(view.rgb, pixels[seen]), confidence


def _bilinear(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Sample an image [H, W, C] at pixel positions (x, y), pixel centers at +0.5, [P, C]."""
    coordinates = pixels[:, ::-1].T - 0.5
    channels = [
        map_coordinates(channel, coordinates, order=1, mode="nearest")
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)


def _filled(texture: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Fill the gaps between charts with the nearest color, so that filtering shows no seams."""
    nearest = np.asarray(
        distance_transform_edt(~covered, return_distances=False, return_indices=True)
    )
    return texture[nearest[0], nearest[1]]
