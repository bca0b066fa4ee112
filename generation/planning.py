"""What a generation will do, known before any network is loaded. Needs no network.

Letters: n frames of the clip, T times and V views of a pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from generation.models.sv4d import SV4DConfig
from generation.models.unet import UNetConfig
from generation.presets import (
    Recipe,
    even_azimuths,
    orbit_through,
    pick_from_orbit,
    recipes,
)
from generation.settings import GenerateSettings
from generation.weights.cascade_files import BRANCH_FILE, LORA_FILE
from generation.windows import Pass
from recon.errors import InputError
from recon.grid import Camera, orbit_camera


class Plan(NamedTuple):
    """What a generation will do, known before any network is loaded.

    Attributes:
        recipe: of the model.
        azimuths_deg: of the generated views that are kept.
        orbit_deg: azimuths of the orbit that the views of frame 0 come from; empty without one.
        elevation_deg: of all cameras.
        steps: of a pass.
        passes: in order, of each grid that is made.
        orbit_steps: of the orbit.
        coarse_size: pixels a side of the grid that is made first; None: none is.
        fine: whether the grid of full size is made.
    """

    recipe: Recipe
    azimuths_deg: tuple[float, ...]
    orbit_deg: tuple[float, ...]
    elevation_deg: float
    steps: int
    passes: tuple[Pass, ...]
    orbit_steps: int
    coarse_size: int | None
    fine: bool

    @property
    def all_steps(self) -> int:
        """Of all passes of all grids, the orbit's included."""
        return self.steps_before(self.fine + (self.coarse_size is not None))

    def steps_before(self, grids: int, passes: int = 0) -> int:
        """Steps of the orbit, of some whole grids, and of some passes of the next."""
        orbit = self.orbit_steps if self.orbit_deg else 0
        return orbit + self.steps * (grids * len(self.passes) + passes)

    @property
    def network_azimuths_deg(self) -> tuple[float, ...]:
        """Of the V views that the network makes; the first may be the input's."""
        return (0.0, *self.azimuths_deg) if self.recipe.makes_input_view else self.azimuths_deg

    def with_network(self, config: UNetConfig) -> Plan:
        """The same with a network of other sizes, as the files of a trained cascade tell them."""
        assert isinstance(config, SV4DConfig), "the kind of the file was checked when it was read"
        return self._replace(recipe=replace(self.recipe, config=config))

    def cameras(self, settings: GenerateSettings, size: int) -> list[Camera]:
        """Of view 0, the input's, and of the V generated ones; images of size²."""
        sign = -1.0 if settings.clockwise else 1.0
        return [
            orbit_camera(
                sign * azimuth, self.elevation_deg, settings.distance, settings.fov_deg, size, size
            )
            for azimuth in (0.0, *self.azimuths_deg)
        ]

    def grids(self, size: int) -> list[int]:
        """Pixels a side of the grids that are made for a clip of size², in order."""
        coarse = [] if self.coarse_size is None else [min(self.coarse_size, size)]
        return coarse + [size] * self.fine

    def needs(self, settings: GenerateSettings) -> tuple[str, ...]:
        """Names of the models whose weights are used, in order."""
        return (*((orbit_model(settings),) if self.orbit_deg else ()), self.recipe.model)

    @property
    def needs_trained(self) -> tuple[str, ...]:
        """Names of the cascade's own files that are used."""
        if self.coarse_size is None:
            return ()
        return (LORA_FILE, BRANCH_FILE) if self.fine else (LORA_FILE,)


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
        usual, free = recipe.orbit_deg, orbit_model(settings) != "sv3d_u"
        if len(azimuths) >= len(usual):
            raise InputError(
                f"{settings.model} makes at most {len(usual) - 1} views, {len(azimuths)} were "
                "asked for"
            )
        orbit = orbit_through(azimuths, usual) if free else usual
        picked = tuple(orbit[index] for index in pick_from_orbit(azimuths, orbit))
        if len(set(picked) - {orbit[-1]}) < len(azimuths):
            raise InputError(
                f"{orbit_model(settings)} has a view at each {360 / len(usual):.2f}°, too few for "
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
        settings.steps or recipe.orbit_steps,
        recipe.coarse_size,
        not settings.coarse_only,
    )


def orbit_model(settings: GenerateSettings) -> str:
    """Of the models of an orbit the one that is wanted, or else the model's own."""
    return settings.orbit_model or recipes[settings.model].orbit_model
