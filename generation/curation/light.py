"""The light that all training images are rendered in: light from all around and a sun.

World frame, +Z up. A surface of base colour c sends out, in every direction,

    c · (sun/π · max(0, n·l) · visible  +  ambient · (0.8 + 0.2 n_z))

where l points to the sun and n is the normal on the side that is seen. What it does not know: what
renders.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Light:
    """Strengths of the light, and where the sun is.

    Attributes:
        ambient: radiance that comes from all around, at least 0.
        sun: irradiance on a surface that faces the sun, at least 0.
        direction: in which the sun shines, world, not 0, [3].
        angle_deg: angular diameter of the sun, which makes shadows soft.
    """

    ambient: float = 0.55
    sun: float = 1.6
    direction: tuple[float, float, float] = (0.55, 0.75, -0.9)
    angle_deg: float = 5.0
