"""What a generation will do, known before any network is loaded. Needs no network.

Letters: n frames of the clip, T times and V generated views of a pass.
"""

from __future__ import annotations

from typing import NamedTuple

from generation.anchors import Pass
from generation.recipes import (
    ORBIT_AZIMUTHS_DEG,
    ORBIT_VIEWS,
    Recipe,
    even_azimuths,
    orbit_through,
    pick_from_orbit,
    recipes,
)
from generation.settings import GenerateSettings
from recon.errors import InputError
from recon.grid import Camera, orbit_camera


class Plan(NamedTuple):
    """What a generation will do, known before any network is loaded.

    Attributes:
        recipe: of the model.
        azimuths_deg: of the V generated views.
        orbit_deg: azimuths of the orbit that the views of frame 0 come from; empty without one.
        elevation_deg: of all cameras.
        steps: of a pass.
        passes: in order.
    """

    recipe: Recipe
    azimuths_deg: tuple[float, ...]
    orbit_deg: tuple[float, ...]
    elevation_deg: float
    steps: int
    passes: tuple[Pass, ...]

    @property
    def all_steps(self) -> int:
        """Of all passes, the orbit's included."""
        return self.steps * (len(self.passes) + bool(self.orbit_deg))

    def cameras(self, settings: GenerateSettings, size: int) -> list[Camera]:
        """Of view 0, the input's, and of the V generated ones; images of size²."""
        sign = -1.0 if settings.clockwise else 1.0
        return [
            orbit_camera(
                sign * azimuth, self.elevation_deg, settings.distance, settings.fov_deg, size, size
            )
            for azimuth in (0.0, *self.azimuths_deg)
        ]

    def needs(self, settings: GenerateSettings) -> tuple[str, ...]:
        """Names of the published files that are used, in order."""
        return (*((settings.orbit_model,) if self.orbit_deg else ()), self.recipe.model)


def plan(settings: GenerateSettings, frames: int) -> Plan:
    """What a generation of a clip of some frames will do.

    Raises:
        InputError: the orbit of SV3D_u has no view of its own for each azimuth.
    """
    recipe = recipes[settings.model]
    azimuths = settings.azimuths_deg or recipe.azimuths_deg
    if not settings.azimuths_deg and settings.views not in (None, len(azimuths)):
        azimuths = even_azimuths(settings.views or 0)
    orbit: tuple[float, ...] = ()
    if recipe.from_orbit:
        free = settings.orbit_model == "sv3d_p"
        orbit = orbit_through(azimuths) if free else ORBIT_AZIMUTHS_DEG
        picked = tuple(orbit[index] for index in pick_from_orbit(azimuths, orbit))
        if len(set(picked) - {orbit[-1]}) < len(azimuths):
            raise InputError(
                f"{settings.orbit_model} has a view at each {360 / ORBIT_VIEWS:.2f}°, too few for "
                f"azimuths {azimuths}; choose others, or --orbit-model sv3d_p"
            )
        azimuths = picked
    elevation = settings.elevation_deg
    return Plan(
        recipe,
        azimuths,
        orbit,
        recipe.elevation_deg if elevation is None else elevation,
        settings.steps or recipe.steps,
        tuple(recipe.passes(frames)),
    )
