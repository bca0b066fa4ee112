"""What a user chooses about a generation. Light to import: no torch."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from recon.errors import InputError
from recon.grid.view_videos import SV4D_DISTANCE, SV4D_FOV_DEG

MODELS = ("mini", "sv4d2", "sv4d2_8views", "sv4d", "4dvd")
CASCADES = ("mini", "4dvd")
ORBIT_MODELS = ("sv3d_u", "sv3d_p")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
MAX_SEED = 2**32 - 1
MAX_VIEWS = 20  # what SV3D's orbit has beside the input view
SIZE_STEP = 64  # pixels: the autoencoder's 8 times the network's 8


@dataclass(frozen=True)
class GenerateSettings:
    """Choices beside those about the clip.

    Attributes:
        model: one of `MODELS`.
        orbit_model: one of `ORBIT_MODELS`; makes the views of the first frame for SV4D and the
            cascade; the model's own if None.
        steps: of each pass, and of the orbit; the model's own numbers if None.
        seed: of all noise.
        azimuths_deg: of the generated views, relative to the input view; the model's own if empty.
        views: how many there are, evenly around, where no azimuths are given.
        elevation_deg: of the input view above the horizon; the model's own if None.
        fov_deg: horizontal field of view that the cameras are given.
        distance: of the cameras from the object, world units.
        clockwise: whether azimuths count clockwise seen from above. Published code draws them
            counter-clockwise; nothing else there says so.
        precision: of the networks; "auto" is bfloat16 on CUDA, float32 on a CPU.
        low_memory: slower, with less memory.
        device: "cpu" or "cuda".
        coarse_only: whether the cascade ends with its coarse grid, enlarged.

    Raises:
        InputError: a name is not known or a number out of its range.
    """

    model: str = "mini"
    orbit_model: str | None = None
    steps: int | None = None
    seed: int = 0
    azimuths_deg: tuple[float, ...] = ()
    views: int | None = None
    elevation_deg: float | None = None
    fov_deg: float = SV4D_FOV_DEG
    distance: float = SV4D_DISTANCE
    clockwise: bool = False
    precision: str = "auto"
    low_memory: bool = False
    device: str = "cpu"
    coarse_only: bool = False

    def __post_init__(self):
        for name, known in (
            ("model", MODELS),
            ("orbit_model", ORBIT_MODELS),
            ("precision", PRECISIONS),
        ):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise InputError(
                    f"unknown {name.replace('_', ' ')} {value!r}; expected one of "
                    f"{', '.join(known)}"
                )
        if self.coarse_only and self.model not in CASCADES:
            raise InputError(
                f"only {' and '.join(CASCADES)} have a coarse stage, {self.model} has none"
            )
        if self.orbit_model is not None and self.model == "mini":
            raise InputError("mini makes the views of the first frame with a network of its own")
        self._check_azimuths()
        for name, value, low, high in (
            ("steps", self.steps, 1, 1000),
            ("seed", self.seed, 0, MAX_SEED),
            ("views", self.views, 1, MAX_VIEWS),
            ("elevation", self.elevation_deg, -90, 90),
            ("field of view", self.fov_deg, 1, 179),
            ("distance", self.distance, 1e-3, 1e3),
        ):
            if value is not None and not low <= value <= high:
                raise InputError(f"expected {name} from {low} to {high}, found {value}")

    def _check_azimuths(self) -> None:
        azimuths = self.azimuths_deg
        if self.views is not None and azimuths and len(azimuths) != self.views:
            raise InputError(
                f"{self.views} views were asked for, but {len(azimuths)} azimuths given"
            )
        if len(azimuths) > MAX_VIEWS:
            raise InputError(f"expected at most {MAX_VIEWS} views, found {len(azimuths)} azimuths")
        if not all(math.isfinite(azimuth) and 0 < azimuth < 360 for azimuth in azimuths):
            raise InputError(f"azimuths must lie between 0 and 360 degrees, found {azimuths}")
        if any(after <= before for before, after in itertools.pairwise(azimuths)):
            raise InputError(f"azimuths must ascend, found {azimuths}")


def check_size(size: int) -> None:
    """Raises InputError for a side in pixels that the networks cannot halve often enough."""
    if size % SIZE_STEP:
        raise InputError(f"expected a size that is a multiple of {SIZE_STEP} pixels, found {size}")
