"""What Blender would draw at the current frame, as arrays, and the world it is put into.

Letters: N vertices, M triangles. The world: the box around all frames is centred at the origin and
the farthest vertex of any frame lies at `RADIUS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import bpy
import numpy as np
from mathutils import Matrix, Vector

from generation.curation.blender.request import Rejected

RADIUS = 0.8
_SURFACES = ("MESH", "CURVE", "SURFACE", "META", "FONT")


class Placed(NamedTuple):
    """One visible mesh: its evaluated object, its triangulated mesh, object-to-world [4, 4]."""

    thing: bpy.types.Object
    mesh: bpy.types.Mesh
    T_world_object: np.ndarray


class World(NamedTuple):
    """How an asset was put into the world: x_world = scale · (x − centre).

    Attributes:
        centre: in the asset's units, after stretch and turn, [3].
        scale: world units for one of the asset's.
        bounds: lower and upper corner in the world, [2, 3].
    """

    centre: np.ndarray
    scale: float
    bounds: np.ndarray


def placed_meshes() -> Iterator[Placed]:
    """The visible meshes at the current frame, instances included; each is valid until the next."""
    graph = bpy.context.evaluated_depsgraph_get()
    for instance in graph.object_instances:
        thing = instance.object
        if thing.type not in _SURFACES or thing.hide_render or not instance.show_self:
            continue
        with _evaluated_mesh(thing) as mesh:
            if mesh is not None and len(mesh.vertices):
                yield Placed(thing, mesh, np.array(instance.matrix_world))


def vertices_of(placed: Placed) -> np.ndarray:
    """Vertices in the world, float64, [N, 3]."""
    local = np.empty(len(placed.mesh.vertices) * 3, dtype=np.float32)
    placed.mesh.vertices.foreach_get("co", local)
    matrix = placed.T_world_object
    return local.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


def all_vertices() -> np.ndarray:
    """Vertices of everything visible at the current frame, float64, [N, 3]."""
    parts = [vertices_of(placed) for placed in placed_meshes()]
    return np.concatenate(parts) if parts else np.zeros((0, 3))


def count_triangles() -> int:
    """Of everything visible at the current frame."""
    return sum(len(placed.mesh.loops) - 2 * len(placed.mesh.polygons) for placed in placed_meshes())


def put_into_world(shapes: Sequence[np.ndarray]) -> World:
    """Where the frames of an asset, after stretch and turn, come to lie.

    Args:
        shapes: vertices of each frame in the asset's units, [N, 3] each.

    Raises:
        Rejected: there are no vertices, they are not finite, or all are in one place.
    """
    if any(len(shape) == 0 for shape in shapes):
        raise Rejected("no_triangles", "at some time of the clip nothing can be seen")
    if not all(np.isfinite(shape).all() for shape in shapes):
        raise Rejected("not_finite", "vertices are NaN or infinite at some time of the clip")
    lower = np.min([shape.min(axis=0) for shape in shapes], axis=0)
    upper = np.max([shape.max(axis=0) for shape in shapes], axis=0)
    centre = (lower + upper) / 2
    farthest = max(float(np.linalg.norm(shape - centre, axis=1).max()) for shape in shapes)
    if not 1e-12 < farthest < 1e12:
        raise Rejected("no_triangles", f"it is {2 * farthest:g} units large")
    scale = RADIUS / farthest
    return World(centre, scale, np.stack([lower - centre, upper - centre]) * scale)


def stretch_and_turn(stretch: Sequence[float], yaw_deg: float) -> Matrix:
    """Factors along the three axes, then a turn about +Z, counter-clockwise seen from above."""
    return Matrix.Rotation(math.radians(yaw_deg), 4, "Z") @ Matrix.Diagonal(stretch).to_4x4()


def hang_under_root() -> bpy.types.Object:
    """Hangs everything under one new empty object, so that all of it can be placed at once."""
    root = bpy.data.objects.new("fourdvd world", None)
    bpy.context.scene.collection.objects.link(root)
    for thing in bpy.data.objects:
        if thing.parent is None and thing is not root:
            thing.parent = root
    return root


def world_matrix(world: World, before: Matrix) -> Matrix:
    """From the asset's units to the world's, after its stretch and turn."""
    scale = Matrix.Diagonal((world.scale,) * 3).to_4x4()
    return scale @ Matrix.Translation(Vector(-world.centre)) @ before


@contextmanager
def _evaluated_mesh(thing: bpy.types.Object) -> Iterator[bpy.types.Mesh | None]:
    try:
        mesh = thing.to_mesh()
    except RuntimeError:  # curves without a surface have none
        mesh = None
    try:
        yield mesh
    finally:
        if mesh is not None:
            thing.to_mesh_clear()
