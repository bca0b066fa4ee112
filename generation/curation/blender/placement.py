"""How the frames of an asset are put into the world.

The box around all frames is centred at the origin, and the farthest vertex of any frame lies at
`RADIUS`. Letters: N vertices. It needs numpy alone: figures that Blender never sees are put there,
too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from generation.curation.blender.request import Rejected

RADIUS = 0.8


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
