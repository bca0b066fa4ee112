"""Settings of the rendered images: cameras, light, frames and renderer.

Letters: V views, F frames. View k is at azimuth k · 360 / V; azimuth 0, the front, is on the −Y
axis. World frame: right-handed, +Z up.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from generation.curation.manifest import Status
from recon.errors import InputError

if TYPE_CHECKING:
    from recon.grid import Camera

FOV_DEG = 33.8  # field of view of SV4D
DISTANCE = 3.2  # a ball of radius 0.8 fills 85 % of the image at this distance
FPS = 10.0
TIMEOUT_S = 1800.0  # time limit of Blender for one asset
MAX_SIZE, MAX_VIEWS, MAX_FRAMES, MAX_SAMPLES = 4096, 256, 1000, 65536
MAX_CLIPS = 100  # file names have two digits
MAX_TEXTURE_SIZE = 2**14  # longer side in pixels


class AssetSettings(Protocol):
    """Settings of a batch of assets, which are rendered or baked.

    Attributes:
        finished: status of a finished asset.
        record: name of the file in its folder that holds its manifest row.
    """

    finished: ClassVar[Status]
    record: ClassVar[str]

    @property
    def device(self) -> str:
        """Device of the work: "cpu", "cuda" or "auto"."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Return the settings that determine the result, to compare with an earlier run."""
        ...


class Renderer(StrEnum):
    """Blender's Cycles, or the project's own rasterizer."""

    cycles = "cycles"
    fast = "fast"


@dataclass(frozen=True)
class Light:
    """Ambient light and a sun.

    A surface of base color c emits, in all directions,

        c · (sun/π · max(0, n·l) · visible  +  ambient · (0.8 + 0.2 n_z))

    where l points to the sun and n is the normal on the visible side.

    Attributes:
        ambient: radiance of the ambient light, at least 0.
        sun: irradiance on a surface that faces the sun, at least 0.
        direction: direction in which the sun shines, world frame, not 0, [3].
        angle_deg: angular diameter of the sun, which makes shadows soft.
    """

    ambient: float = 0.55
    sun: float = 1.6
    direction: tuple[float, float, float] = (0.55, 0.75, -0.9)
    angle_deg: float = 5.0


@dataclass(frozen=True)
class RenderSettings:
    """Settings of all renders of a batch.

    Attributes:
        action: name of the animation; None for the one with most motion.
        views: number of views V.
        frames: number of frames F, evenly spaced over the animation, both ends included.
        size: side of an image in pixels.
        elevation_deg: elevation of all cameras.
        yaw_deg: rotation of the object about +Z, counter-clockwise seen from above; the light does
            not turn with it.
        stretch: maximum factor of a random stretch along each axis of an asset, an augmentation of
            its shape; 1 keeps the shape.
        seed: seed of the stretch; see `factors`.
        samples: samples per pixel.
        light: ambient light and sun.
        renderer: Cycles or the fast rasterizer.
        device: "cpu", "cuda" or "auto", for Cycles.
        depth: whether depth maps are written.
        normals: whether normal maps are written.
        layers: whether the surface layers are written.
        tracks: number of vertices to track through time.

    Raises:
        InputError: a number is out of its range.
    """

    finished: ClassVar[Status] = Status.RENDERED
    record: ClassVar[str] = "render.json"

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
    layers: bool = False
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
                raise InputError(f"expected {name} from {least:g} to {most:g}, found {value:g}")

    @property
    def needs_triangles(self) -> bool:
        """Whether Blender must export the triangles of all frames."""
        extras = self.depth or self.normals or self.layers or self.tracks > 0
        return self.renderer is Renderer.fast or extras

    def cameras(self) -> list[Camera]:
        """Return the V cameras."""
        from recon.grid import orbit_camera

        return [
            orbit_camera(
                360.0 * k / self.views, self.elevation_deg, DISTANCE, FOV_DEG, self.size, self.size
            )
            for k in range(self.views)
        ]

    def factors(self, name: str) -> list[float]:
        """Return the stretch of an asset along its three axes, each in [1 / stretch, stretch].

        The factors are log-uniform, and depend on the seed and the asset's name only.
        """
        import numpy as np

        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        return np.exp(rng.uniform(-1, 1, 3) * math.log(self.stretch)).tolist()

    def as_json(self) -> dict[str, Any]:
        """Return the settings that determine the result as JSON, to compare with an earlier run."""
        values = asdict(self) | {"renderer": str(self.renderer)}
        del values["device"]  # changes noise only
        return values


@dataclass(frozen=True)
class BakeSettings:
    """Settings of a batch of baked assets.

    Attributes:
        clips: maximum number of animations of an asset.
        frames: number of frames of each animation, evenly spaced, both ends included.
        texture_size: longer side in pixels to which larger textures are reduced.

    Raises:
        InputError: a number is out of its range.
    """

    finished: ClassVar[Status] = Status.BAKED
    record: ClassVar[str] = "bake.json"

    clips: int = 3
    frames: int = 8
    texture_size: int = 512

    def __post_init__(self):
        for name, value, most in (
            ("clips", self.clips, MAX_CLIPS),
            ("frames", self.frames, MAX_FRAMES),
            ("texture size", self.texture_size, MAX_TEXTURE_SIZE),
        ):
            if not 1 <= value <= most:
                raise InputError(f"expected {name} from 1 to {most}, found {value}")

    @property
    def device(self) -> str:
        """See `AssetSettings`."""
        return "cpu"

    def as_json(self) -> dict[str, Any]:
        """See `AssetSettings`."""
        return asdict(self)
