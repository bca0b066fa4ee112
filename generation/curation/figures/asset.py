"""Procedural characters as assets: fields of the manifest, and triangles of all frames.

Letters: F frames, N vertices, M triangles. Coordinates are world coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from generation.curation.blender.placement import World, put_into_world
from generation.curation.figures.figure import Figure, Paint, Part, Pattern
from generation.curation.figures.generator import random_figure
from generation.curation.figures.solids import Mesh, mesh_of
from generation.curation.render.baked_asset import BakedAsset, MeshFrame, Surface
from generation.curation.render.settings import RenderSettings


@dataclass(frozen=True)
class FigureAsset:
    """The procedural character of a seed, with the fields of `assets.files.Asset`.

    Attributes:
        seed: seed of the character, at least 0.
    """

    seed: int
    source: ClassVar[str | None] = None
    licence: ClassVar[str | None] = "CC0-1.0"
    author: ClassVar[str | None] = None

    @property
    def name(self) -> str:
        """Name of its grid folder."""
        return f"figure_{self.seed:08d}"

    @property
    def path(self) -> Path:
        """Name in place of a file path, for manifests."""
        return Path(self.name)

    def bake(self, settings: RenderSettings) -> BakedFigure:
        """Bake all frames, stretched and rotated according to the settings."""
        yaw = math.radians(settings.yaw_deg)
        turn = np.array(
            [[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]]
        )
        stretched = turn @ np.diag(settings.factors(self.name))
        return bake_figure(random_figure(self.seed), settings.frames, stretched)


def figure_assets(first_seed: int, count: int) -> list[FigureAsset]:
    """Return the figures of `count` consecutive seeds."""
    return [FigureAsset(seed) for seed in range(first_seed, first_seed + count)]


STRIPES = 3.5  # number of stripes on a part


class BakedFigure(NamedTuple):
    """The triangles of a character, and its normalization.

    Attributes:
        asset: the triangles of F frames.
        world: transform from the character's own units to the world.
    """

    asset: BakedAsset
    world: World


def bake_figure(figure: Figure, frames: int, transform: np.ndarray | None = None) -> BakedFigure:
    """Bake all frames of a figure, normalized like imported assets.

    Args:
        figure: the figure.
        frames: number of frames F, evenly spaced over the animation, both ends included.
        transform: linear map applied before the normalization, [3, 3]; None for the identity.
    """
    meshes = [mesh_of(part.solid) for part in figure.parts]
    shapes = [_vertices(figure, meshes, time) for time in np.linspace(0, 1, frames)]
    if transform is not None:
        shapes = [shape @ transform.T for shape in shapes]
    world = put_into_world(shapes)
    starts = np.cumsum([0, *(len(mesh.points) for mesh in meshes[:-1])])
    triangles = _joined(
        [mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)]
    )
    parts = list(zip(figure.parts, meshes, strict=True))
    smooth = _joined([np.full(len(mesh.triangles), part.smooth) for part, mesh in parts])
    colors = _joined([_colors(part, mesh) for part, mesh in parts])
    no_uv = np.zeros((0, len(triangles), 3, 2), np.float32)
    surface = np.zeros(len(triangles), np.int32)
    made = []
    for shape in shapes:
        vertices = ((shape - world.center) * world.scale).astype(np.float32)
        normals = _normals(vertices, triangles, smooth)
        made.append(MeshFrame(vertices, triangles, normals, no_uv, colors, surface))
    painted = Surface(base_color=(1.0, 1.0, 1.0, 1.0), uses_colors=True)
    return BakedFigure(BakedAsset(tuple(made), (painted,), ()), world)


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays)


def _vertices(figure: Figure, meshes: list[Mesh], time: float) -> np.ndarray:
    """Compute the vertices of all parts at a time, [N, 3]."""
    parts = zip(figure.parts, meshes, figure.poses(time), strict=True)
    return _joined(
        [pose.joint + pose.rotation.apply(mesh.points + part.offset) for part, mesh, pose in parts]
    )


def _normals(vertices: np.ndarray, triangles: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    """Compute corner normals, [M, 3, 3]: flat, or averaged at vertices for smooth parts."""
    corners = vertices[triangles]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sums = np.zeros_like(vertices)
    np.add.at(sums, triangles, flat[:, None])
    normals = np.where(smooth[:, None, None], sums[triangles], flat[:, None])
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return (normals / np.maximum(length, 1e-20)).astype(np.float32)


def _colors(part: Part, mesh: Mesh) -> np.ndarray:
    """Compute corner colors, linear RGBA, [M, 3, 4]; constant over each triangle."""
    centers = mesh.points[mesh.triangles].mean(1) / part.solid.radii  # about −1 … 1
    other = _is_other(part.paint, centers)[:, None]
    colors = np.where(other, part.paint.other, part.paint.color)
    opaque = np.ones((len(colors), 1))
    return np.repeat(np.hstack([colors, opaque])[:, None], 3, axis=1).astype(np.float32)


def _is_other(paint: Paint, centers: np.ndarray) -> np.ndarray:
    """Return which triangles have the second color, bool, [M]."""
    x, y, z = centers.T
    up = (z + 1) / 2
    match paint.pattern:
        case Pattern.end:
            return up > 1 - paint.share
        case Pattern.stripes:
            return up * STRIPES % 1 < paint.share
        case Pattern.belly:
            return (1 - y) / 2 > 1 - paint.share
        case Pattern.patches:
            rng = np.random.default_rng(paint.seed)
            waves = rng.normal(0, 2.5, (4, 3)) @ np.stack([np.abs(x), y, z])
            height = np.sin(waves + rng.uniform(0, 2 * np.pi, (4, 1))).sum(0)
            return height > np.quantile(height, 1 - paint.share)
        case Pattern.plain:
            return np.zeros(len(centers), bool)
