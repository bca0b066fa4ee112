"""Figures in the place of assets: what a manifest says of them, and how they are drawn.

What it does not know: files.


----
A figure as an imported asset is: the triangles of each frame, in the world, with their colours.

Letters: F frames, N vertices, M triangles. Frame: world. What it does not know: which figures there
are, images.
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
    """The figure of a seed, with the fields of `asset_files.Asset` but for the file.

    Attributes:
        seed: at least 0.
    """

    seed: int
    source: ClassVar[str | None] = None
    licence: ClassVar[str | None] = "CC0-1.0"
    author: ClassVar[str | None] = None

    @property
    def name(self) -> str:
        """Of the folder of its grid."""
        return f"figure_{self.seed:08d}"

    @property
    def path(self) -> Path:
        """What stands for a file in manifests."""
        return Path(self.name)

    def bake(self, settings: RenderSettings) -> BakedFigure:
        """Its frames, stretched and turned as the settings say."""
        yaw = math.radians(settings.yaw_deg)
        turn = np.array(
            [[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]]
        )
        stretched = turn @ np.diag(settings.factors(self.name))
        return bake_figure(random_figure(self.seed), settings.frames, stretched)


def figure_assets(first_seed: int, count: int) -> list[FigureAsset]:
    """The figures of `count` seeds, from the first one on."""
    return [FigureAsset(seed) for seed in range(first_seed, first_seed + count)]


RINGS = 3.5  # of stripes on a part


class BakedFigure(NamedTuple):
    """What can be drawn, and how it was put into the world.

    Attributes:
        asset: F frames.
        world: see `World`.
    """

    asset: BakedAsset
    world: World


def bake_figure(figure: Figure, frames: int, transform: np.ndarray | None = None) -> BakedFigure:
    """All frames of a clip, normalised as `data render` normalises assets.

    Args:
        figure: what.
        frames: F, evenly over the clip with both ends.
        transform: linear, of the figure before it is put into the world, [3, 3].
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
    colours = _joined([_colours(part, mesh) for part, mesh in parts])
    no_uv = np.zeros((0, len(triangles), 3, 2), np.float32)
    surface = np.zeros(len(triangles), np.int32)
    made = []
    for shape in shapes:
        vertices = ((shape - world.centre) * world.scale).astype(np.float32)
        normals = _normals(vertices, triangles, smooth)
        made.append(MeshFrame(vertices, triangles, normals, no_uv, colours, surface))
    painted = Surface(base_colour=(1.0, 1.0, 1.0, 1.0), uses_colours=True)
    return BakedFigure(BakedAsset(tuple(made), (painted,), ()), world)


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays)


def _vertices(figure: Figure, meshes: list[Mesh], time: float) -> np.ndarray:
    """Of all parts at a time, [N, 3]."""
    parts = zip(figure.parts, meshes, figure.poses(time), strict=True)
    return _joined(
        [pose.joint + pose.rotation.apply(mesh.points + part.offset) for part, mesh, pose in parts]
    )


def _normals(vertices: np.ndarray, triangles: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    """Of the corners, unit, [M, 3, 3]: the triangle's, or where it is smooth the vertex's mean."""
    corners = vertices[triangles]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sums = np.zeros_like(vertices)
    np.add.at(sums, triangles, flat[:, None])
    normals = np.where(smooth[:, None, None], sums[triangles], flat[:, None])
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return (normals / np.maximum(length, 1e-20)).astype(np.float32)


def _colours(part: Part, mesh: Mesh) -> np.ndarray:
    """Of the corners, with alpha, linear, [M, 3, 4]; each triangle has one."""
    centres = mesh.points[mesh.triangles].mean(1) / part.solid.radii  # about −1 … 1
    other = _is_other(part.paint, centres)[:, None]
    colours = np.where(other, part.paint.other, part.paint.colour)
    opaque = np.ones((len(colours), 1))
    return np.repeat(np.hstack([colours, opaque])[:, None], 3, axis=1).astype(np.float32)


def _is_other(paint: Paint, centres: np.ndarray) -> np.ndarray:
    """Which triangles have the other colour, [M]."""
    x, y, z = centres.T
    up = (z + 1) / 2
    match paint.pattern:
        case Pattern.end:
            return up > 1 - paint.share
        case Pattern.stripes:
            return up * RINGS % 1 < paint.share
        case Pattern.belly:
            return (1 - y) / 2 > 1 - paint.share
        case Pattern.patches:
            rng = np.random.default_rng(paint.seed)
            waves = rng.normal(0, 2.5, (4, 3)) @ np.stack([np.abs(x), y, z])
            height = np.sin(waves + rng.uniform(0, 2 * np.pi, (4, 1))).sum(0)
            return height > np.quantile(height, 1 - paint.share)
        case Pattern.plain:
            return np.zeros(len(centres), bool)
