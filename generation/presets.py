"""How each model is sampled: its network, its cameras, its guidance, its passes.

The numbers are those of the published sampling scripts where they differ from the published
configuration files; those of 4dvd are the paper's (§3.3, §3.4), or SV4D's where it has none; those
of mini are what it was trained with, without guidance. Letters: T times and V views of one pass,
n frames of the clip.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from generation.diffusion import linear_scale, space_time_scale
from generation.models.sv4d import SV4DConfig
from generation.models.unet import UNetConfig
from generation.windows import Pass, anchored_passes, chained_passes

ORBIT_VIEWS = 21
ORBIT_SCALE = (1.0, 2.5)
ORBIT_STEPS = 20
UNGUIDED = (1.0, 1.0)
ORBIT_AZIMUTHS_DEG = tuple(360.0 * (k + 1) / ORBIT_VIEWS for k in range(ORBIT_VIEWS))
"""SV3D's orbit; the last is the input view."""

MINI_CONFIG = SV4DConfig(
    in_channels=32,
    out_channels=16,
    model_channels=32,
    channel_mult=(2, 3),
    num_res_blocks=1,
    attention_resolutions=(1, 2),
    num_head_channels=32,
    context_dim=128,
    motion_context_dim=16,
    use_camera_emb=True,
    separate_motion_merge_factor=True,
)
"""Of the cascade that is part of this package; another one may be smaller or larger."""

ORBIT_CONFIGS = {"sv3d_u": UNetConfig(adm_in_channels=256), "sv3d_p": UNetConfig()}


@dataclass(frozen=True)
class Recipe:
    """One way from a video to views.

    Attributes:
        model: the network, or the base it is made from: a key of
            `generation.weights.catalogue.published`, or a name of
            `generation.weights.trained_weights`.
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
        size: pixels a side of the grid, where the user does not say.
        orbit_deg: the azimuths at which SV3D is used to make views, ascending to 360.
        orbit_scale: lowest and highest guidance of SV3D's views.
        orbit_steps: of SV3D.
        orbit_size: pixels a side of SV3D's views, at most; None: those of the input.
        fades: whether the objects that it makes fade out where their edges should be, see
            `generation.clip.silhouettes`.
        needs_download: whether somebody else has published the networks.
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
    size: int = 576
    orbit_deg: tuple[float, ...] = ORBIT_AZIMUTHS_DEG
    orbit_scale: tuple[float, float] = ORBIT_SCALE
    orbit_steps: int = ORBIT_STEPS
    orbit_size: int | None = None
    fades: bool = False
    needs_download: bool = True

    @property
    def guided(self) -> bool:
        """Whether any frame of the grid is led away from what happens without conditioning."""
        return bool((self.scale(self.times, len(self.azimuths_deg)) != 1).any())


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
    "mini": Recipe(
        "mini",
        MINI_CONFIG,
        times=5,
        azimuths_deg=tuple(22.5 * k for k in range(1, 16)),
        steps=1,
        ratio=0.6,
        elevation_deg=0.0,
        from_orbit=True,
        scale=partial(space_time_scale, low=1.0, high=1.0),
        passes=partial(anchored_passes, T=5),
        orbit_model="mini_sv3d",
        makes_input_view=True,
        coarse_size=64,
        size=128,
        orbit_deg=tuple(22.5 * k for k in range(1, 17)),
        orbit_scale=UNGUIDED,
        orbit_steps=1,
        orbit_size=64,
        fades=True,
        needs_download=False,
    ),
}


def even_azimuths(views: int) -> tuple[float, ...]:
    """Azimuths of generated views that share the circle evenly with the input view, degrees."""
    return tuple(360.0 * (view + 1) / (views + 1) for view in range(views))


def orbit_through(
    azimuths_deg: tuple[float, ...], usual_deg: tuple[float, ...] = ORBIT_AZIMUTHS_DEG
) -> tuple[float, ...]:
    """An orbit for SV3D_p or mini: azimuths, the wanted ones among them and the input view last.

    Args:
        azimuths_deg: fewer than the usual orbit has, distinct, within (0, 360).
        usual_deg: the orbit at which the network is used where nobody asks for another one.

    Returns:
        Ascending degrees; the usual orbit where it has all that are wanted, else the widest gaps
        are halved until there are as many.
    """
    if all(_nearest(azimuth, usual_deg)[1] < 1e-6 for azimuth in azimuths_deg):
        return usual_deg
    orbit = [0.0, *sorted(azimuths_deg), 360.0]
    while len(orbit) < len(usual_deg) + 1:
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
