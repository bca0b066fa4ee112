"""Soft shadows of the sun: depth maps from points of its disc.

Letters: K directions, S × S texels, N vertices. Frame: world. What it does not know: views; one
set of maps serves all views of a frame.
"""

from __future__ import annotations

import numpy as np

from generation.curation.light import Light
from generation.curation.mesh_rasterizer import DrawableMesh, ShadowMaps

MAPS = 16
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


def sun_directions(light: Light, count: int = MAPS) -> np.ndarray:
    """Unit vectors to K points spread evenly over the sun's disc, float64, [K, 3]."""
    axis = -np.asarray(light.direction, np.float64)
    axis /= np.linalg.norm(axis)
    right, up = _across(axis)
    index = np.arange(count)
    radius = np.tan(np.radians(light.angle_deg) / 2) * np.sqrt((index + 0.5) / count)
    angle = index * _GOLDEN_ANGLE  # a sunflower's spiral: every point owns the same area
    points = axis + radius[:, None] * (np.cos(angle)[:, None] * right + np.sin(angle)[:, None] * up)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def draw_shadow_maps(
    mesh: DrawableMesh, vertices: np.ndarray, light: Light, size: int
) -> ShadowMaps:
    """Maps that hold all of a mesh, each with the largest scale that does.

    Args:
        mesh: casts the shadows.
        vertices: its vertices, [N, 3].
        light: whose sun it is.
        size: S, at least 3.
    """
    directions = sun_directions(light)
    matrices = np.stack([_fit(direction, vertices, size) for direction in directions])
    return ShadowMaps(
        matrices.astype(np.float32),
        directions.astype(np.float32),
        mesh.shadow_nearness(matrices, size),
    )


def _fit(direction: np.ndarray, vertices: np.ndarray, size: int) -> np.ndarray:
    """World to texels: across, down, and towards the sun in the same unit, [3, 4]."""
    axes = np.stack([*_across(direction), direction])
    seen = vertices @ axes.T.astype(np.float32)
    lower, upper = seen.min(axis=0), seen.max(axis=0)
    scale = (size - 2) / max(float((upper - lower)[:2].max()), 1e-6)
    offset = np.append(1 - scale * lower[:2], 0.0)
    return np.column_stack([scale * axes, offset])


def _across(direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors at right angles to a direction and to each other."""
    away = np.eye(3)[np.abs(direction).argmin()]  # the axis that is least along it
    right = np.cross(away, direction)
    right /= np.linalg.norm(right)
    return right, np.cross(direction, right)
