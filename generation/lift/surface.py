"""Closed surface of one frame from the surface layers of its view.

    layers, h × w ──columns_of──▶ columns, H × W ──┐
    image, H × W ──────────────────────────────────┴─surface_of──▶ triangle mesh

A column is a pixel with the solid intervals along its ray. Where intervals of neighbors overlap in
depth, their fronts and backs are connected; elsewhere they end with walls (`lift.cells`).
Letters: h × w pixels of the layers, H × W of the image, N vertices, M triangles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from generation.lift.cells import (
    CORNERS,
    DIRECTIONS,
    LABELS,
    cell_surface,
)
from generation.lift.columns import Columns, columns_of, overlaps, swapped
from generation.lift.front_colors import front_colors
from generation.lift.side_colors import without_stripes
from generation.surface_layers import SurfaceLayers
from recon.grid import Camera
from recon.grid.cameras import OPENGL_FROM_OPENCV

SOLID = 128  # alpha from which a pixel belongs to the object
THIN_EDGE = 0.2  # smallest thickness at a cut, over that at the pixel
NEAREST_CUT = 0.05  # smallest distance of a cut from a pixel center, in pixels


class LiftedSurface(NamedTuple):
    """A closed triangle mesh with colors.

    Attributes:
        vertices: world coordinates, float32, [N, 3].
        triangles: vertex indices, counter-clockwise seen from outside, int32, [M, 3].
        colors: sRGB, uint8, [N, 3].
        spacing: width of a pixel at each vertex in world units, float32, [N].
    """

    vertices: np.ndarray
    triangles: np.ndarray
    colors: np.ndarray
    spacing: np.ndarray


def surface_of(layers: SurfaceLayers, image: np.ndarray, camera: Camera) -> LiftedSurface:
    """Build the surface of one frame.

    The silhouette in the view of the camera is where the alpha of the image crosses one half.

    Args:
        layers: surface layers, of any size.
        image: RGBA, sRGB with straight alpha, uint8, [H, W, 4].
        camera: camera of the image.

    Returns:
        A surface without triangles if the image or the layers are empty.
    """
    assert image.shape == (camera.height, camera.width, 4)
    solid = image[..., 3] >= SOLID
    if not solid.any() or not layers.mask.any():
        return _empty()
    columns = columns_of(layers, solid, image, camera)
    columns.color[0] = front_colors(image, columns)
    rows, cols = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    top, left = rows[0], cols[0]
    box = slice(top, rows[-1] + 1), slice(left, cols[-1] + 1)
    columns = _padded(columns.at(*box))
    alpha = np.pad(image[..., 3], 1)[top : rows[-1] + 3, left : cols[-1] + 3]
    polygons = _polygons(columns)
    used, polygons = _compact(polygons, columns.parts.size * LABELS)
    places, depth, color, bounds = _vertices(used, columns, alpha)
    places += [left - 0.5, top - 0.5]
    vertices = world_points(places, depth, camera)
    triangles, spacing = _triangles(polygons, vertices), (depth / camera.fl_x).astype(np.float32)
    color = without_stripes(vertices, triangles, color, bounds, spacing)
    return LiftedSurface(vertices, triangles, color, spacing)


def _padded(columns: Columns) -> Columns:
    """Add a frame of empty pixels."""
    frame = ((1, 1), (1, 1))
    return Columns(
        np.pad(columns.parts, frame),
        np.pad(columns.depth, ((0, 0), *frame)),
        np.pad(columns.color, ((0, 0), *frame, (0, 0))),
        columns.tolerance,
    )


def world_points(places: np.ndarray, depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the world points at image places [N, 2] and depths [N], float32, [N, 3]."""
    rays = (places - [camera.cx, camera.cy]) / [camera.fl_x, camera.fl_y]
    points = np.column_stack([rays, np.ones(len(rays))]) * depth[:, None]
    T = camera.T_world_camera @ OPENGL_FROM_OPENCV
    return (points @ T[:3, :3].T + T[:3, 3]).astype(np.float32)


def _empty() -> LiftedSurface:
    return LiftedSurface(
        np.zeros((0, 3), np.float32),
        np.zeros((0, 3), np.int32),
        np.zeros((0, 3), np.uint8),
        np.zeros(0, np.float32),
    )


def _polygons(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Return triangles [M, 3] and quads [Q, 4], clockwise, of vertices pixel · LABELS + label."""
    count, width = columns.parts.astype(np.int64), columns.parts.shape[1]
    code = np.zeros(np.array(count.shape) - 1, np.int64)
    near, far, whole = slice(None, -1), slice(1, None), slice(None)
    across = overlaps(columns.at(whole, near), columns.at(whole, far))
    down = overlaps(columns.at(near, whole), columns.at(far, whole))
    sides = (across[:-1], down[:, 1:], swapped(across[1:]), swapped(down[:, :-1]))
    for row, column in CORNERS:
        code = 3 * code + count[row:, column:][: code.shape[0], : code.shape[1]]
    filled = np.flatnonzero(code)
    code = code.ravel()[filled]
    for side in sides:
        code = 16 * code + side.ravel()[filled]
    order = np.argsort(code, kind="stable")
    code, filled = code[order], filled[order]
    pixel = filled // (width - 1) * width + filled % (width - 1)
    corner = np.array([row * width + column for row, column in CORNERS])
    local = (corner[:, None] * LABELS + np.arange(LABELS)).ravel()
    triangles, quads = [], []
    starts = np.flatnonzero(np.r_[True, code[1:] != code[:-1]])
    for start, end in zip(starts, [*starts[1:], len(code)], strict=True):
        kind = cell_surface(*_decode(int(code[start])))
        base = LABELS * pixel[start:end, None, None]
        triangles.append((base + local[kind.triangles]).reshape(-1, 3))
        quads.append((base + local[kind.quads]).reshape(-1, 4))
    return np.concatenate(triangles), np.concatenate(quads)


def _decode(code: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    sides = tuple(code >> 4 * i & 15 for i in (3, 2, 1, 0))
    corners = code >> 16
    return tuple(corners // 3**i % 3 for i in (3, 2, 1, 0)), sides


def _compact(
    polygons: tuple[np.ndarray, np.ndarray], size: int
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Number the used vertices from 0 on."""
    is_used = np.zeros(size, np.bool_)
    for each in polygons:
        is_used[each] = True
    used = np.flatnonzero(is_used)
    number = np.zeros(size, np.int32)
    number[used] = np.arange(len(used))
    return used, (number[polygons[0]], number[polygons[1]])


def _vertices(
    used: np.ndarray, columns: Columns, alpha: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return places (x, y) in the padded box [N, 2], depths [N], colors [N, 3] and bounds [N]."""
    pixel, which = np.divmod(used, LABELS)
    bound, cut = which % 4, which // 4 - 1
    width = columns.parts.shape[1]
    places = np.stack([pixel % width, pixel // width], axis=1).astype(np.float64)
    depth = columns.depth.reshape(4, -1)[bound, pixel].astype(np.float64)
    is_cut = cut >= 0
    step = np.array(DIRECTIONS)[cut[is_cut]]
    stride = step @ [width, 1]
    share = _cut_shares(alpha.ravel(), pixel[is_cut], stride)
    places[is_cut] += share[:, None] * step[:, ::-1]
    depth[is_cut] = _cut_depths(columns, pixel[is_cut], bound[is_cut], stride, share)
    return places, depth, columns.color.reshape(4, -1, 3)[bound, pixel], bound


def _cut_shares(alpha: np.ndarray, pixel: np.ndarray, stride: np.ndarray) -> np.ndarray:
    """Return how far cuts are from their pixels: where alpha crosses one half, or half way."""
    inner, outer = alpha[pixel].astype(np.float64), alpha[pixel + stride].astype(np.float64)
    share = (inner - SOLID + 0.5) / np.maximum(inner - outer, 1e-9)
    return np.where(outer < SOLID, share, 0.5).clip(NEAREST_CUT, 1 - NEAREST_CUT)


def _cut_depths(
    columns: Columns, pixel: np.ndarray, bound: np.ndarray, stride: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Extrapolate bounds to cuts, with the slope on the other side of the pixel.

    Intervals only become thinner.
    The bound at the other end of the wall is extrapolated, too; where both would pass one another,
    they end as a thin edge.
    """
    count, depths = columns.parts.ravel(), columns.depth.reshape(4, -1).astype(np.float64)
    inner = pixel - stride
    like = count[pixel] == count[inner]

    def extrapolated(bound: np.ndarray) -> np.ndarray:
        rise = depths[bound, pixel] - depths[bound, inner]
        is_smooth = like & (np.abs(rise) < columns.tolerance)
        rise = np.where(bound % 2 == 0, np.maximum(rise, 0), np.minimum(rise, 0))
        return depths[bound, pixel] + np.where(is_smooth, share * rise, 0.0)

    side = np.where(bound % 2 == 0, -1, 1)
    depth, other = extrapolated(bound), extrapolated(bound ^ 1)
    edge = THIN_EDGE * np.abs(depths[bound, pixel] - depths[bound ^ 1, pixel]) / 2
    return np.where((depth - other) * side < 2 * edge, (depth + other) / 2 + side * edge, depth)


def _triangles(polygons: tuple[np.ndarray, np.ndarray], vertices: np.ndarray) -> np.ndarray:
    """Divide quads along their shorter diagonal; int32, [M, 3], counter-clockwise."""
    triangles, quads = polygons
    one, other = (
        np.square(vertices[quads[:, a]] - vertices[quads[:, b]]).sum(1) for a, b in ((0, 2), (1, 3))
    )
    quads = np.where((one <= other)[:, None], quads, np.roll(quads, 1, axis=1))
    parts = [triangles, quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]
    return np.ascontiguousarray(np.concatenate(parts)[:, ::-1], np.int32)
