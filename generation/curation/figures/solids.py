"""Solids of procedural figures: superquadrics that may taper and bend.

Letters: P points, M triangles. Coordinates are local to the solid, whose axis is z.

Source: Barr 1981, "Superquadrics and angle-preserving transformations", for the surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Solid:
    """Shape parameters of a solid.

    Attributes:
        radii: half extents along x, y and z, [3].
        roundness: exponents across and along the axis: 1 is an ellipsoid, 2 an octahedron, and
            values near 0 a box.
        taper: scale of the cross-section at the lower and the upper end.
        bend: displacement of the ends along y, in units of half the length.
        segments: vertices around the axis and rings along it.
    """

    radii: tuple[float, float, float]
    roundness: tuple[float, float] = (1.0, 1.0)
    taper: tuple[float, float] = (1.0, 1.0)
    bend: float = 0.0
    segments: tuple[int, int] = (10, 8)


class Mesh(NamedTuple):
    """Triangle mesh of a solid; vertices are counter-clockwise seen from outside.

    Attributes:
        points: float64, [P, 3].
        triangles: indices of points, int32, [M, 3].
    """

    points: np.ndarray
    triangles: np.ndarray


def mesh_of(solid: Solid) -> Mesh:
    """Mesh a solid, centered at the origin."""
    around, along = solid.segments
    longitude = np.arange(around) * (2 * np.pi / around)
    latitude = np.linspace(-np.pi / 2, np.pi / 2, along + 1)[1:-1]
    across, axial = solid.roundness
    ring = np.stack([_power(np.cos(longitude), across), _power(np.sin(longitude), across)], -1)
    width, height = _power(np.cos(latitude), axial), _power(np.sin(latitude), axial)
    rings = np.concatenate(
        [
            width[:, None, None] * ring,
            np.broadcast_to(height[:, None, None], (along - 1, around, 1)),
        ],
        axis=-1,
    )
    points = np.concatenate([[[0, 0, -1.0]], rings.reshape(-1, 3), [[0, 0, 1.0]]])
    low, high = solid.taper
    up = (points[:, 2:] + 1) / 2
    points[:, :2] *= low + (high - low) * up
    points *= solid.radii
    points[:, 1] += solid.bend * solid.radii[2] * (2 * up[:, 0] - 1) ** 2
    return Mesh(points, _triangles(around, along - 1))


def _power(values: np.ndarray, exponent: float) -> np.ndarray:
    """Raise absolute values to a power, keeping the signs."""
    return np.sign(values) * np.abs(values) ** exponent


def _triangles(around: int, rings: int) -> np.ndarray:
    """Triangulate a lower pole, rings of points and an upper pole, int32, [M, 3]."""
    here = np.arange(around)
    following = (here + 1) % around
    last = 1 + around * rings
    parts = [np.stack([np.zeros_like(here), 1 + following, 1 + here], 1)]
    for ring in range(rings - 1):
        low, high = 1 + ring * around, 1 + (ring + 1) * around
        parts.append(np.stack([low + here, low + following, high + following], 1))
        parts.append(np.stack([low + here, high + following, high + here], 1))
    top = 1 + (rings - 1) * around
    parts.append(np.stack([top + here, top + following, np.full_like(here, last)], 1))
    return np.concatenate(parts).astype(np.int32)
