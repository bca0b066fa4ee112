"""What all models' plans have in common: the cameras of the grid."""

from __future__ import annotations

from dataclasses import dataclass

from recon.grid import Camera, orbit_camera


@dataclass(frozen=True)
class Plan:
    """Everything that determines the grid of a given clip; each kind of model adds its own fields.

    Attributes:
        azimuths_deg: azimuths of the generated views, V or V − 1 of them.
        elevation_deg: elevation of all cameras.
        fov_deg: horizontal field of view of all cameras.
        distance: distance of all cameras from the object, world units.
        clockwise: whether azimuths count clockwise seen from above.
    """

    azimuths_deg: tuple[float, ...]
    elevation_deg: float
    fov_deg: float
    distance: float
    clockwise: bool

    def cameras(self, size: int) -> list[Camera]:
        """Place the cameras of view 0, the input view, and of the generated views.

        Args:
            size: side of the images in pixels.
        """
        sign = -1.0 if self.clockwise else 1.0
        return [
            orbit_camera(
                sign * azimuth, self.elevation_deg, self.distance, self.fov_deg, size, size
            )
            for azimuth in (0.0, *self.azimuths_deg)
        ]


def even_azimuths(views: int) -> tuple[float, ...]:
    """Return azimuths in degrees that divide the circle evenly together with the input view."""
    return tuple(360.0 * (view + 1) / (views + 1) for view in range(views))
