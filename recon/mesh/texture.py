"""Colour of a mesh from pictures of the Gaussians it was made from.

    Gaussians ──cameras all around──▶ photographs ──those that see a point──▶ colour of the point
                                                         texture or vertex colours ◀──┘

Letters: P points, V photographs, H × W pixels, S texels along a side of the texture.
Frame: world, +Z up; in the texture u is to the right, v down, both in [0, 1], as glTF has them.
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
from recon.rasterizers.mesh_reference import draw_triangles, look_at_mesh, project_points
from recon.rendering import render_gaussians

HEAD_ON = 6  # power of the cosine between normal and view: sharp colours come from few photographs
COSINE_MIN = 0.2  # flatter views blur along the surface
PADDING = 2  # texels between charts, so that filtering does not mix them
OCCLUSION = 0.01  # of the distance: how far behind the surface a point still counts as on it
ALPHA_MIN = 0.5  # more transparent pixels show what is behind the object


class Photograph(NamedTuple):
    """Gaussians seen by one camera, with the depth of their mesh.

    Attributes:
        camera: whose size is that of the pictures.
        rgb: sRGB, not mixed with a background, [H, W, 3].
        alpha: [H, W].
        depth: of the mesh along the optical axis, infinite beside it, [H, W].
        trust: weight of the photograph against the others, positive.
    """

    camera: Camera
    rgb: np.ndarray
    alpha: np.ndarray
    depth: np.ndarray
    trust: float


class Unwrapped(NamedTuple):
    """A mesh cut open along seams: vertices on a seam are there several times.

    Attributes:
        origin: which vertex of the mesh each one is, [P'].
        faces: the same triangles with the new corners, [F, 3].
        uv: places in the texture, in [0, 1], [P', 2].
    """

    origin: np.ndarray
    faces: np.ndarray
    uv: np.ndarray


def photograph(
    gaussians: Gaussians, mesh: Mesh, cameras: Sequence[Camera], trust: Sequence[float]
) -> list[Photograph]:
    """Takes pictures of Gaussians from cameras of any sizes.

    Args:
        gaussians: as stored.
        mesh: the surface made from them.
        cameras: V of them.
        trust: weight of each photograph, [V].
    """
    photographs = []
    for camera, weight in zip(cameras, trust, strict=True):
        with torch.no_grad():
            picture = render_gaussians(gaussians, [camera], background=(0.0, 0.0, 0.0))
        rgb, alpha = picture.rgb[0].cpu().numpy(), picture.alpha[0].cpu().numpy()
        rgb = np.clip(rgb / np.maximum(alpha, 1e-3)[..., None], 0, 1)
        depth = look_at_mesh(mesh.vertices, mesh.faces, camera).depth
        photographs.append(Photograph(camera, rgb, alpha, depth, weight))
    return photographs


def surface_colors(
    points: np.ndarray, normals: np.ndarray, photographs: Sequence[Photograph]
) -> np.ndarray:
    """Colours of points on the mesh: the mean of the photographs that see them, head-on ones first.

    Args:
        points: in the world, [P, 3].
        normals: outwards, unit, [P, 3].
        photographs: V of them.

    Returns:
        sRGB in [0, 1], [P, 3]. Points that no photograph sees have the colour of the nearest one
        that is seen, or grey if none is.
    """
    total, weight = np.zeros((len(points), 3)), np.zeros(len(points))
    for picture in photographs:
        index, colors, confidence = _seen_colors(points, normals, picture)
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
    """Cuts a mesh into charts and packs them into a texture of about `size` texels a side."""
    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32))
    options = xatlas.PackOptions()
    options.resolution, options.padding = size, PADDING
    atlas.generate(pack_options=options)
    origin, faces, uv = atlas[0]
    return Unwrapped(origin.astype(np.int64), faces.astype(np.int64), uv)


def bake_texture(
    mesh: Mesh, unwrapped: Unwrapped, photographs: Sequence[Photograph], size: int
) -> np.ndarray:
    """The texture of a mesh, sRGB, uint8, [S, S, 3]; row 0 is v = 0.

    Args:
        mesh: canonical, as photographed.
        unwrapped: from `unwrap(mesh, size)`.
        photographs: V of them.
        size: S.
    """
    texels = draw_triangles(unwrapped.uv * size, unwrapped.faces, size, size)
    covered = texels.face >= 0
    points = texels.interpolate(unwrapped.faces, mesh.vertices[unwrapped.origin])[covered]
    normals = texels.interpolate(unwrapped.faces, mesh.normals()[unwrapped.origin])[covered]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    texture = np.zeros((size, size, 3))
    texture[covered] = surface_colors(points, normals, photographs)
    return _filled(np.round(255 * texture).astype(np.uint8), covered)


def sample_texture(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear colours, [..., 3], of a texture [S, S, 3] at `uv` [..., 2]."""
    pixels = (uv * np.array(texture.shape[1::-1])).reshape(-1, 2)
    return _bilinear(texture.astype(np.float64), pixels).reshape(*uv.shape[:-1], 3)


def _seen_colors(
    points: np.ndarray, normals: np.ndarray, picture: Photograph
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points that one photograph sees: indices [M], colours [M, 3] and confidence [M]."""
    towards = picture.camera.position - points
    cosine = (towards * normals).sum(axis=1) / np.linalg.norm(towards, axis=1)
    facing = np.flatnonzero(cosine > COSINE_MIN)
    pixels, depth = project_points(points[facing], picture.camera)
    column, row = np.floor(pixels).astype(int).T
    height, width = picture.depth.shape
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height) & (depth > 0)
    column, row = np.where(inside, column, 0), np.where(inside, row, 0)
    alpha = picture.alpha[row, column]
    on_surface = depth * (1 - OCCLUSION) < picture.depth[row, column]
    seen = inside & on_surface & (alpha > ALPHA_MIN)
    index = facing[seen]
    confidence = picture.trust * alpha[seen] * cosine[index] ** HEAD_ON
    return index, _bilinear(picture.rgb, pixels[seen]), confidence


def _bilinear(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Values of [H, W, C] at pixel positions (x, y), pixel centres at +0.5, [P, C]."""
    coordinates = pixels[:, ::-1].T - 0.5
    channels = [
        map_coordinates(channel, coordinates, order=1, mode="nearest")
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)


def _filled(texture: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """The gaps between charts take the nearest colour, or filtering would show them as seams."""
    nearest = np.asarray(
        distance_transform_edt(~covered, return_distances=False, return_indices=True)
    )
    return texture[nearest[0], nearest[1]]
