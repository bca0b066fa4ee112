"""How each model is sampled: its network, its cameras, its guidance, its passes.

The numbers are those of the published sampling scripts where they differ from the published
configuration files; those of 4dvd are the paper's (§3.3, §3.4), or SV4D's where it
has none. Letters: T times and V views of one pass, n frames of the clip.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from generation.anchors import Pass, anchored_passes, chained_passes
from generation.diffusion.guidance import linear_scale, space_time_scale
from generation.models.sv4d import SV4DConfig
from generation.models.unet import UNetConfig

ORBIT_VIEWS = 21
ORBIT_SCALE = (1.0, 2.5)
ORBIT_STEPS = 20
ORBIT_AZIMUTHS_DEG = tuple(360.0 * (k + 1) / ORBIT_VIEWS for k in range(ORBIT_VIEWS))
"""SV3D's orbit; the last is the input view."""

ORBIT_CONFIGS = {"sv3d_u": UNetConfig(adm_in_channels=256), "sv3d_p": UNetConfig()}


@dataclass(frozen=True)
class Recipe:
    """One way from a video to views.

    Attributes:
        model: key of `generation.catalogue.published`: the network, or what it is made from.
        config: of the network.
        times: T of one pass.
        azimuths_deg: of the generated views, relative to the input view, ascending in [0, 360).
        steps: of a pass.
        ratio: share of the image's side that the object takes.
        elevation_deg: of the input view, where the user does not say.
        from_orbit: whether the views of frame 0 come from SV3D, and elevations are absolute.
        scale: guidance of the frames of a pass from T and V, [T·V].
        passes: from n.
        orbit_model: makes the views of frame 0, where the user does not say.
        makes_input_view: whether the network makes the input's own view, too, as its view 0. What
            it makes of that one is never looked at.
        coarse_size: pixels a side of the grid that is made first, at most, of which a structure
            branch tells the network that makes the grid; None: there is no such stage.
    """

    model: str
    config: SV4DConfig
    times: int
    azimuths_deg: tuple[float, ...]
    steps: int
    ratio: float
    elevation_deg: float
    from_orbit: bool
    scale: Callable[[int, int], Tensor]
    passes: Callable[[int], list[Pass]]
    orbit_model: str = "sv3d_u"
    makes_input_view: bool = False
    coarse_size: int | None = None


def _linear(low: float, high: float) -> Callable[[int, int], Tensor]:
    return lambda times, views: linear_scale(times * views, low, high)


recipes: dict[str, Recipe] = {
    "sv4d": Recipe(
        "sv4d",
        SV4DConfig(),
        times=5,
        azimuths_deg=tuple(360.0 * k / ORBIT_VIEWS for k in (2, 5, 7, 9, 12, 14, 16, 19)),
        steps=20,
        ratio=0.917,
        elevation_deg=10.0,
        from_orbit=True,
        scale=partial(space_time_scale, low=1.0, high=2.0),
        passes=partial(anchored_passes, T=5),
    ),
    "sv4d2": Recipe(
        "sv4d2",
        SV4DConfig(use_camera_emb=True, use_3d_attention=True, separate_motion_merge_factor=True),
        times=12,
        azimuths_deg=(60.0, 120.0, 180.0, 240.0),
        steps=50,
        ratio=0.9,
        elevation_deg=0.0,
        from_orbit=False,
        scale=_linear(1.0, 2.0),
        passes=partial(chained_passes, T=12),
    ),
    "sv4d2_8views": Recipe(
        "sv4d2_8views",
        SV4DConfig(use_camera_emb=True, separate_motion_merge_factor=True),
        times=5,
        azimuths_deg=(30.0, 75.0, 120.0, 165.0, 210.0, 255.0, 300.0, 330.0),
        steps=50,
        ratio=0.9,
        elevation_deg=0.0,
        from_orbit=False,
        scale=partial(space_time_scale, low=1.5, high=2.5),
        passes=partial(chained_passes, T=5),
    ),
    "4dvd": Recipe(
        "sv4d",
        SV4DConfig(),
        times=5,
        azimuths_deg=tuple(22.5 * k for k in range(1, 16)),
        steps=10,
        ratio=0.917,
        elevation_deg=10.0,
        from_orbit=True,
        scale=partial(space_time_scale, low=1.0, high=2.0),
        passes=partial(anchored_passes, T=5),
        orbit_model="sv3d_p",
        makes_input_view=True,
        coarse_size=256,
    ),
}


def even_azimuths(views: int) -> tuple[float, ...]:
    """Azimuths of generated views that share the circle evenly with the input view, degrees."""
    return tuple(360.0 * (view + 1) / (views + 1) for view in range(views))


def orbit_through(azimuths_deg: tuple[float, ...]) -> tuple[float, ...]:
    """An orbit for SV3D_p: 21 azimuths, those that are wanted among them and the input view last.

    Args:
        azimuths_deg: at most 20, distinct, within (0, 360).

    Returns:
        Ascending degrees; the published orbit where it has all that are wanted, else the widest
        gaps are halved until there are 21.
    """
    if all(_nearest(azimuth, ORBIT_AZIMUTHS_DEG)[1] < 1e-6 for azimuth in azimuths_deg):
        return ORBIT_AZIMUTHS_DEG
    orbit = [0.0, *sorted(azimuths_deg), 360.0]
    while len(orbit) < ORBIT_VIEWS + 1:
        gaps = [after - before for before, after in itertools.pairwise(orbit)]
        widest = gaps.index(max(gaps))
        orbit.insert(widest + 1, orbit[widest] + gaps[widest] / 2)
    return tuple(orbit[1:])


def pick_from_orbit(
    azimuths_deg: tuple[float, ...], orbit_deg: tuple[float, ...]
) -> tuple[int, ...]:
    """Index in an orbit of the view nearest to each azimuth."""
    return tuple(_nearest(azimuth, orbit_deg)[0] for azimuth in azimuths_deg)


def _nearest(azimuth: float, orbit: tuple[float, ...]) -> tuple[int, float]:
    """Index of the nearest azimuth and its distance in degrees."""
    distances = [abs((azimuth - other + 180.0) % 360.0 - 180.0) for other in orbit]
    return distances.index(min(distances)), min(distances)
