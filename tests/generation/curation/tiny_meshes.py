"""Baked assets of a few triangles, for tests of the renderers."""

from __future__ import annotations

import numpy as np

from generation.curation.render.baked_asset import BakedAsset, MeshFrame, Surface

CHECKER = np.array(
    [[[230, 40, 40, 255], [40, 230, 40, 255]], [[40, 40, 230, 255], [220, 220, 60, 255]]], np.uint8
)


def quad(
    size: float = 1.0,
    center: tuple[float, float, float] = (0, 0, 0),
    normal: tuple[float, float, float] = (0, -1, 0),
    surface: int = 0,
) -> MeshFrame:
    """A square; seen from the front, u increases to the right and v upwards."""
    front = np.asarray(normal, np.float64) / np.linalg.norm(normal)
    up = np.array([0.0, 1.0, 0.0]) if abs(front[2]) > 0.9 else np.array([0.0, 0.0, 1.0])
    right = np.cross(up, front)
    right /= np.linalg.norm(right)
    up = np.cross(front, right)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    vertices = np.asarray(center) + size * ((uv[:, :1] - 0.5) * right + (uv[:, 1:] - 0.5) * up)
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    return mesh(vertices, triangles, np.tile(front, (2, 3, 1)), uv[triangles], surface)


def ball(radius: float = 0.5, rings: int = 6, surface: int = 0) -> MeshFrame:
    """A coarse sphere with the normals of an exact one."""
    polar = np.linspace(0, np.pi, rings + 1)[:, None]
    around = np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    level = np.sin(polar) * np.stack([np.cos(around), np.sin(around)])[:, None]
    height = np.broadcast_to(np.cos(polar), level[0].shape)
    points = np.stack([*level, height], axis=-1).reshape(-1, 3)
    corner = np.arange(rings * len(around)).reshape(rings, -1)
    right = np.roll(corner, -1, axis=1)
    below, below_right = corner + len(around), right + len(around)
    first = np.stack([corner, below, below_right], axis=-1)[:-1]  # at the poles there is one each
    second = np.stack([corner, below_right, right], axis=-1)[1:]
    triangles = np.concatenate([first, second]).reshape(-1, 3)
    uv = np.stack([points[:, 0], points[:, 2]], axis=1) + 0.5
    return mesh(radius * points, triangles, points[triangles], uv[triangles], surface)


def mesh(
    vertices: np.ndarray,
    triangles: np.ndarray,
    normals: np.ndarray,
    uv: np.ndarray | None = None,
    surface: int = 0,
) -> MeshFrame:
    """A frame with one set of texture coordinates, white corners and one surface."""
    count = len(triangles)
    return MeshFrame(
        np.asarray(vertices, np.float32),
        np.asarray(triangles, np.int32),
        np.asarray(normals, np.float32),
        np.zeros((1, count, 3, 2), np.float32) if uv is None else np.asarray(uv[None], np.float32),
        np.ones((count, 3, 4), np.float32),
        np.full(count, surface, np.int32),
    )


def joined(*parts: MeshFrame) -> MeshFrame:
    """Concatenate several meshes to one frame."""
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)], dtype=np.int32)
    return MeshFrame(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([p.triangles + n for p, n in zip(parts, offsets[:-1], strict=True)]),
        np.concatenate([part.normals for part in parts]),
        np.concatenate([part.uv for part in parts], axis=1),
        np.concatenate([part.colors for part in parts]),
        np.concatenate([part.surface for part in parts]),
    )  # fmt: skip


def asset(
    frame: MeshFrame, *surfaces: Surface, textures: tuple[np.ndarray, ...] = ()
) -> BakedAsset:
    """A baked asset of one frame; without surfaces it gets the default gray one."""
    return BakedAsset((frame,), surfaces or (Surface(),), textures)
