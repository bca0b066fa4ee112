"""Visible geometry of the scene at the current frame, and the root object that transforms it.

Letters: N vertices, M triangles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import bpy
import numpy as np
from mathutils import Matrix, Vector

from generation.curation.blender.placement import World

_SURFACES = ("MESH", "CURVE", "SURFACE", "META", "FONT")


class Placed(NamedTuple):
    """A visible mesh.

    Attributes:
        thing: its evaluated object.
        mesh: its evaluated mesh.
        T_world_object: object-to-world matrix, [4, 4].
    """

    thing: bpy.types.Object
    mesh: bpy.types.Mesh
    T_world_object: np.ndarray


def placed_meshes() -> Iterator[Placed]:
    """Yield the visible meshes, including instances; each is valid until the next is yielded."""
    graph = bpy.context.evaluated_depsgraph_get()
    for instance in graph.object_instances:
        thing = instance.object
        if thing.type not in _SURFACES or thing.hide_render or not instance.show_self:
            continue
        with _evaluated_mesh(thing) as mesh:
            if mesh is not None and len(mesh.vertices):
                yield Placed(thing, mesh, np.array(instance.matrix_world))


def vertices_of(placed: Placed) -> np.ndarray:
    """Return the vertices in world coordinates, float64, [N, 3]."""
    local = np.empty(len(placed.mesh.vertices) * 3, dtype=np.float32)
    placed.mesh.vertices.foreach_get("co", local)
    matrix = placed.T_world_object
    return local.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


def all_vertices() -> np.ndarray:
    """Return the vertices of all visible meshes in world coordinates, float64, [N, 3]."""
    parts = [vertices_of(placed) for placed in placed_meshes()]
    return np.concatenate(parts) if parts else np.zeros((0, 3))


def count_triangles() -> int:
    """Count the triangles of all visible meshes."""
    return sum(len(placed.mesh.loops) - 2 * len(placed.mesh.polygons) for placed in placed_meshes())


def stretch_and_turn(stretch: Sequence[float], yaw_deg: float) -> Matrix:
    """Return the matrix that scales along the axes, then rotates about +Z (counter-clockwise)."""
    return Matrix.Rotation(math.radians(yaw_deg), 4, "Z") @ Matrix.Diagonal(stretch).to_4x4()


def hang_under_root() -> bpy.types.Object:
    """Parent all objects to one new empty object, so that they can be transformed together."""
    root = bpy.data.objects.new("fourdvd world", None)
    bpy.context.scene.collection.objects.link(root)
    for thing in bpy.data.objects:
        if thing.parent is None and thing is not root:
            thing.parent = root
    return root


def world_matrix(world: World, before: Matrix) -> Matrix:
    """Return the matrix from the asset to the world; `before` is applied first."""
    scale = Matrix.Diagonal((world.scale,) * 3).to_4x4()
    return scale @ Matrix.Translation(Vector(-world.center)) @ before


@contextmanager
def _evaluated_mesh(thing: bpy.types.Object) -> Iterator[bpy.types.Mesh | None]:
    try:
        mesh = thing.to_mesh()
    except RuntimeError:  # raised for curves without a surface
        mesh = None
    try:
        yield mesh
    finally:
        if mesh is not None:
            thing.to_mesh_clear()
