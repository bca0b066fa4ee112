"""The options of a generation, apart from those of the clip. Light to import: no torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from recon.errors import InputError
from recon.grid.view_cameras import SV4D_DISTANCE, SV4D_FOV_DEG

MODELS = ("lift", "mini", "sv4d2", "sv4d2_8views", "sv4d", "4dvd")
CASCADES = ("mini", "4dvd")
PREFERRED = ("4dvd", "sv4d2")  # what "auto" is where it can run, the best one first; else lift
ORBIT_MODELS = ("sv3d_u", "sv3d_p")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
MAX_SEED = 2**32 - 1
MAX_VIEWS = 20  # SV3D's orbit without the input view
MAX_LIFTED_VIEWS = 360
SIZE_STEP = 64  # pixels: the autoencoder reduces by 8, a diffusion network by 8 again


@dataclass(frozen=True)
class GenerateSettings:
    """Options of a generation.

    Attributes:
        model: name of the model, one of `MODELS`.
        orbit_model: model that makes the reference views for sv4d and 4dvd, one of `ORBIT_MODELS`;
            None for the preset's.
        steps: denoising steps per window, and of the orbit model; None for the preset's. `lift`
            has none.
        seed: seed of all noise; `lift` has none.
        azimuths_deg: azimuths of the generated views relative to the input view, ascending within
            (0, 360); empty for the preset's.
        views: number of generated views, spaced evenly; None for the preset's or as many as there
            are azimuths.
        elevation_deg: elevation of the input view above the horizon; None for the preset's.
        fov_deg: horizontal field of view of the cameras.
        distance: distance of the cameras from the object, world units.
        clockwise: whether azimuths count clockwise seen from above. Published code draws them
            counter-clockwise, which is the only evidence for their direction.
        precision: floating-point type of the networks, one of `PRECISIONS`; "auto" is bfloat16 on
            CUDA, float32 on a CPU; for `lift` bfloat16 also on CPUs with instructions for it.
        low_memory: whether to save device memory at the expense of time.
        device: "cpu" or "cuda".
        coarse_only: whether the cascade ends with its coarse grid, enlarged.
        size: side of the grid's images in pixels, for diffusion models a multiple of `SIZE_STEP`;
            None for the model's.

    Raises:
        InputError: a name is unknown, a number out of range, or the model has no use for an option.
    """

    model: str = "lift"
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
    size: int | None = None

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
                    f"{', '.join(known)}",
                    argument=name,
                )
        if self.coarse_only and self.model not in CASCADES:
            raise InputError(
                f"expected a model with a coarse stage ({' or '.join(CASCADES)}), found "
                f"{self.model}",
                argument="coarse_only",
            )
        self._check_unused()
        most = MAX_LIFTED_VIEWS if self.model == "lift" else MAX_VIEWS
        self._check_azimuths(most)
        for name, value, low, high in (
            ("steps", self.steps, 1, 1000),
            ("seed", self.seed, 0, MAX_SEED),
            ("views", self.views, 1, most),
            ("elevation_deg", self.elevation_deg, -90, 90),
            ("fov_deg", self.fov_deg, 1, 179),
            ("distance", self.distance, 1e-3, 1e3),
        ):
            if value is not None and not low <= value <= high:
                raise InputError(f"expected {low} to {high}, found {value}", argument=name)
        if self.size is not None and self.model != "lift":
            check_size(self.size)

    def _check_unused(self) -> None:
        """Raise InputError for options that the model has no use for."""
        if self.orbit_model is not None and self.model in ("mini", "lift"):
            reason = "which has its own" if self.model == "mini" else "which needs none"
            raise InputError(
                f"expected no orbit model for {self.model}, {reason}, found {self.orbit_model}; "
                "omit it",
                argument="orbit_model",
            )
        if self.steps is not None and self.model == "lift":
            raise InputError(
                f"expected no steps for lift, which computes its grid in one pass, found "
                f"{self.steps}; omit them",
                argument="steps",
            )

    def _check_azimuths(self, most: int) -> None:
        azimuths = self.azimuths_deg
        if self.views is not None and azimuths and len(azimuths) != self.views:
            raise InputError(
                f"expected {self.views} azimuths for {self.views} views, found {len(azimuths)}",
                argument="azimuths_deg",
            )
        if len(azimuths) > most:
            raise InputError(
                f"expected at most {most} views, found {len(azimuths)}", argument="azimuths_deg"
            )
        if not all(math.isfinite(azimuth) and 0 < azimuth < 360 for azimuth in azimuths):
            raise InputError(
                f"expected angles between 0 and 360 degrees, found {_listed(azimuths)}",
                argument="azimuths_deg",
            )
        if any(after <= before for before, after in itertools.pairwise(azimuths)):
            raise InputError(
                f"expected ascending angles, found {_listed(azimuths)}", argument="azimuths_deg"
            )


def _listed(angles: Sequence[float]) -> str:
    return ", ".join(f"{angle:g}" for angle in angles)


def check_size(size: int) -> None:
    """Check a side in pixels.

    Raises:
        InputError: it is not a positive multiple of `SIZE_STEP`.
    """
    if size < SIZE_STEP or size % SIZE_STEP:
        raise InputError(
            f"expected a multiple of {SIZE_STEP} pixels, found {size}", argument="size"
        )
