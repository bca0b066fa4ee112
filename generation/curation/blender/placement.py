"""Normalization of an asset: from its own units to world units.

The bounding box over all frames is centered at the origin, and the farthest vertex of any frame is
at distance `RADIUS`. This module needs only numpy, because procedural characters, which are made
without Blender, are normalized in the same way. Letters: N vertices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from generation.curation.blender.request import Rejected

RADIUS = 0.8


class World(NamedTuple):
    """Transform of an asset into the world: x_world = scale · (x − center).

    Attributes:
        center: center of the bounding box in the asset's units, after stretch and rotation, [3].
        scale: world units per unit of the asset.
        bounds: lower and upper corner of the bounding box in world coordinates, [2, 3].
    """

    center: np.ndarray
    scale: float
    bounds: np.ndarray


def put_into_world(shapes: Sequence[np.ndarray]) -> World:
    """Compute the normalization of an asset.

    Args:
        shapes: vertices of each frame after stretch and rotation, [N, 3] each.

    Raises:
        Rejected: there are no vertices, they are not finite, or all coincide.
    """
    if any(len(shape) == 0 for shape in shapes):
        raise Rejected("no_triangles", "nothing is visible at some time of the animation")
    if not all(np.isfinite(shape).all() for shape in shapes):
        raise Rejected("not_finite", "vertices are NaN or infinite at some time of the animation")
    lower = np.min([shape.min(axis=0) for shape in shapes], axis=0)
    upper = np.max([shape.max(axis=0) for shape in shapes], axis=0)
    center = (lower + upper) / 2
    farthest = max(float(np.linalg.norm(shape - center, axis=1).max()) for shape in shapes)
    if not 1e-12 < farthest < 1e12:
        raise Rejected("no_triangles", f"its size is {2 * farthest:g} units")
    scale = RADIUS / farthest
    return World(center, scale, np.stack([lower - center, upper - center]) * scale)
