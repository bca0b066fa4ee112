"""What decides the pictures of an asset: cameras, light, frames and how they are drawn.

Letters: V views, F frames. View k is at azimuth k · 360 / V; azimuth 0, the front, is on the −Y
axis.


----
The light that all training images are rendered in: light from all around and a sun.

World frame, +Z up. A surface of base colour c sends out, in every direction,

    c · (sun/π · max(0, n·l) · visible  +  ambient · (0.8 + 0.2 n_z))

where l points to the sun and n is the normal on the side that is seen. What it does not know: what
renders.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from recon.errors import InputError
from recon.grid import Camera, orbit_camera

FOV_DEG = 33.8  # SV4D's own
DISTANCE = 3.2  # from which a ball of radius 0.8 fills 0.85 of the picture
FPS = 10.0
MAX_SIZE, MAX_VIEWS, MAX_FRAMES, MAX_SAMPLES = 4096, 256, 1000, 65536


class Renderer(StrEnum):
    """What draws."""

    cycles = "cycles"
    fast = "fast"


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


@dataclass(frozen=True)
class RenderSettings:
    """What is drawn of every asset.

    Attributes:
        action: name of the clip; None takes the one with most motion.
        views: V.
        frames: F, over the whole clip with both ends.
        size: of an image's side in pixels.
        elevation_deg: of all cameras.
        yaw_deg: turn of the object about +Z, counter-clockwise from above; the light stays.
        stretch: largest factor by which an asset may be stretched or squeezed along each of its
            axes, so that one makes many objects; 1 leaves it as it is.
        seed: of the factors, see `factors`.
        samples: a pixel.
        light: ambient and sun.
        renderer: Cycles, or the own rasterizer.
        device: cpu, cuda or auto; for Cycles.
        depth: whether depth maps are written.
        normals: whether maps of normals are written.
        tracks: number of vertices followed through time; 0 for none.

    Raises:
        InputError: a number is out of its range.
    """

    action: str | None = None
    views: int = 16
    frames: int = 21
    size: int = 576
    elevation_deg: float = 0.0
    yaw_deg: float = 0.0
    stretch: float = 1.0
    seed: int = 0
    samples: int = 16
    light: Light = field(default_factory=Light)
    renderer: Renderer = Renderer.cycles
    device: str = "auto"
    depth: bool = False
    normals: bool = False
    tracks: int = 0

    def __post_init__(self):
        for name, value, least, most in (
            ("views", self.views, 1, MAX_VIEWS),
            ("frames", self.frames, 1, MAX_FRAMES),
            ("size", self.size, 4, MAX_SIZE),
            ("samples", self.samples, 1, MAX_SAMPLES),
            ("elevation", self.elevation_deg, -89.0, 89.0),
            ("stretch", self.stretch, 1, 4),
            ("seed", self.seed, 0, 2**32 - 1),
            ("tracks", self.tracks, 0, 10**7),
        ):
            if not least <= value <= most:
                raise InputError(f"{name} must be from {least:g} to {most:g}, found {value:g}")

    @property
    def needs_triangles(self) -> bool:
        """Whether the triangles themselves are needed outside of Blender."""
        wants_truth = self.depth or self.normals or self.tracks > 0
        return self.renderer is Renderer.fast or wants_truth

    def cameras(self) -> list[Camera]:
        """The V cameras."""
        return [
            orbit_camera(
                360.0 * k / self.views, self.elevation_deg, DISTANCE, FOV_DEG, self.size, self.size
            )
            for k in range(self.views)
        ]

    def factors(self, name: str) -> list[float]:
        """Along the three axes of the asset of a name, each in [1 / stretch, stretch], [3].

        Their logarithms are evenly spread, and depend on seed and name alone.
        """
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        return np.exp(rng.uniform(-1, 1, 3) * math.log(self.stretch)).tolist()

    def as_json(self) -> dict[str, Any]:
        """What decides the result, to be compared with what a folder was made with."""
        values = asdict(self) | {"renderer": str(self.renderer)}
        del values["device"]  # the same picture but for noise
        return values
