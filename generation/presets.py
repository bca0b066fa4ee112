"""How diffusion models are sampled: the table of presets, and the plans they give with options.

    GenerateSettings (options) + Preset (table) + n frames ──make_plan──▶ SamplingPlan

The numbers of SV4D and SV4D 2.0 are those of the published sampling scripts where these differ from
the configuration files; those of 4dvd are the paper's (§3.3, §3.4), or SV4D's where it gives none;
those of mini are the ones it was trained with, without guidance.

Letters: n frames of the clip, T frames and V views of a window.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from generation.diffusion import linear_scale, space_time_scale
from generation.plan import Plan, even_azimuths
from generation.settings import GenerateSettings
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE
from generation.windows import MIN_FRAMES, Window, anchor_and_fill_windows, chained_windows
from recon.errors import InputError

ORBIT_VIEWS = 21
ORBIT_GUIDANCE = (1.0, 2.5)
ORBIT_STEPS = 20
UNGUIDED = (1.0, 1.0)
ORBIT_AZIMUTHS_DEG = tuple(360.0 * (k + 1) / ORBIT_VIEWS for k in range(ORBIT_VIEWS))
"""Azimuths of SV3D's orbit; the last is the input view."""


@dataclass(frozen=True)
class Preset:
    """How one model is sampled.

    Attributes:
        model: name of the network, or of its base: a key of
            `generation.weights.catalogue.published` or `trained`.
        window_frames: T, number of frames of a full window.
        azimuths_deg: default azimuths of the generated views relative to the input view, ascending
            within (0, 360).
        steps: default number of denoising steps per window.
        ratio: longest side of the object over the side of the image.
        elevation_deg: default elevation of the input view.
        uses_orbit_model: whether an orbit model makes the reference views, those of frame 0; the
            network then gets absolute elevations, else elevations relative to the input view.
        guidance: function of T and V that gives the guidance scale of each sample, [T·V].
        windows: function of n that gives the windows.
        orbit_model: default orbit model.
        denoises_input_view: whether the network also denoises the input view, as its view 0. That
            result is never used: the input itself takes its place.
        coarse_size: maximum side of the coarse stage's images in pixels; None for a single stage.
        size: default side of the grid's images in pixels.
        orbit_azimuths_deg: default azimuths of the orbit model, ascending to 360.
        orbit_guidance: lowest and highest guidance scale of the orbit model.
        orbit_steps: default number of denoising steps of the orbit model.
        orbit_size: maximum side of the orbit model's images in pixels; None for the input's size.
        soft_silhouettes: whether objects fade out softly at their edges, so that alpha is estimated
            by `generation.clip.matting.cut_soft_silhouette`.
    """

    model: str
    window_frames: int
    azimuths_deg: tuple[float, ...]
    steps: int
    ratio: float
    elevation_deg: float
    uses_orbit_model: bool
    guidance: Callable[[int, int], Tensor]
    windows: Callable[[int], list[Window]]
    orbit_model: str = "sv3d_u"
    denoises_input_view: bool = False
    coarse_size: int | None = None
    size: int = 576
    orbit_azimuths_deg: tuple[float, ...] = ORBIT_AZIMUTHS_DEG
    orbit_guidance: tuple[float, float] = ORBIT_GUIDANCE
    orbit_steps: int = ORBIT_STEPS
    orbit_size: int | None = None
    soft_silhouettes: bool = False

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is used for any sample of a window."""
        return bool((self.guidance(self.window_frames, len(self.azimuths_deg)) != 1).any())


def _linear(low: float, high: float) -> Callable[[int, int], Tensor]:
    return lambda frames, views: linear_scale(frames * views, low, high)


presets: dict[str, Preset] = {
    "sv4d": Preset(
        "sv4d",
        window_frames=5,
        azimuths_deg=tuple(360.0 * k / ORBIT_VIEWS for k in (2, 5, 7, 9, 12, 14, 16, 19)),
        steps=20,
        ratio=0.917,
        elevation_deg=10.0,
        uses_orbit_model=True,
        guidance=partial(space_time_scale, low=1.0, high=2.0),
        windows=partial(anchor_and_fill_windows, T=5),
    ),
    "sv4d2": Preset(
        "sv4d2",
        window_frames=12,
        azimuths_deg=(60.0, 120.0, 180.0, 240.0),
        steps=50,
        ratio=0.9,
        elevation_deg=0.0,
        uses_orbit_model=False,
        guidance=_linear(1.0, 2.0),
        windows=partial(chained_windows, T=12),
    ),
    "sv4d2_8views": Preset(
        "sv4d2_8views",
        window_frames=5,
        azimuths_deg=(30.0, 75.0, 120.0, 165.0, 210.0, 255.0, 300.0, 330.0),
        steps=50,
        ratio=0.9,
        elevation_deg=0.0,
        uses_orbit_model=False,
        guidance=partial(space_time_scale, low=1.5, high=2.5),
        windows=partial(chained_windows, T=5),
    ),
    "4dvd": Preset(
        "sv4d",
        window_frames=5,
        azimuths_deg=tuple(22.5 * k for k in range(1, 16)),
        steps=10,
        ratio=0.917,
        elevation_deg=10.0,
        uses_orbit_model=True,
        guidance=partial(space_time_scale, low=1.0, high=2.0),
        windows=partial(anchor_and_fill_windows, T=5),
        orbit_model="sv3d_p",
        denoises_input_view=True,
        coarse_size=256,
    ),
    "mini": Preset(
        "mini",
        window_frames=5,
        azimuths_deg=tuple(22.5 * k for k in range(1, 16)),
        steps=1,
        ratio=0.6,
        elevation_deg=0.0,
        uses_orbit_model=True,
        guidance=partial(space_time_scale, low=1.0, high=1.0),
        windows=partial(anchor_and_fill_windows, T=5),
        orbit_model="mini_sv3d",
        denoises_input_view=True,
        coarse_size=64,
        size=128,
        orbit_azimuths_deg=tuple(22.5 * k for k in range(1, 17)),
        orbit_guidance=UNGUIDED,
        orbit_steps=1,
        orbit_size=64,
        soft_silhouettes=True,
    ),
}


@dataclass(frozen=True)
class SamplingPlan(Plan):
    """Plan of a diffusion model: a preset resolved with the options.

    Attributes:
        preset: preset of the model.
        orbit_model: name of the orbit model; None if the preset uses none.
        orbit_azimuths_deg: azimuths that the orbit model denoises; empty without one.
        windows: the windows of each stage, in order.
        steps: denoising steps per window.
        orbit_steps: denoising steps of the orbit model.
        coarse_size: maximum side of the coarse stage's images in pixels; None for a single stage.
        fine: whether the grid is sampled at full size.
        seed: seed of all noise.
    """

    preset: Preset
    orbit_model: str | None
    orbit_azimuths_deg: tuple[float, ...]
    windows: tuple[Window, ...]
    steps: int
    orbit_steps: int
    coarse_size: int | None
    fine: bool
    seed: int

    @property
    def total_steps(self) -> int:
        """Denoising steps of the orbit model and of all windows of all stages."""
        return self.steps_before(self.fine + (self.coarse_size is not None))

    def steps_before(self, stages: int, windows: int = 0) -> int:
        """Count the denoising steps before a window, including those of the orbit model.

        Args:
            stages: number of complete stages before the window.
            windows: number of windows before it in its own stage.
        """
        orbit = self.orbit_steps if self.orbit_model else 0
        return orbit + self.steps * (stages * len(self.windows) + windows)

    @property
    def network_azimuths_deg(self) -> tuple[float, ...]:
        """Azimuths of the V views that the network denoises; the first may be the input view."""
        own = (0.0,) if self.preset.denoises_input_view else ()
        return (*own, *self.azimuths_deg)

    def stage_sizes(self, size: int) -> list[int]:
        """Return the side in pixels of each stage's images, in order, for a clip of size²."""
        coarse = [] if self.coarse_size is None else [min(self.coarse_size, size)]
        return coarse + [size] * self.fine

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models whose weights are used, in order of use."""
        return (*([self.orbit_model] if self.orbit_model else []), self.preset.model)

    @property
    def cascade_files(self) -> tuple[str, ...]:
        """Names of the cascade's own weights files that are used: LoRA and structure branch."""
        if self.coarse_size is None:
            return ()
        return (LORA_FILE, BRANCH_FILE) if self.fine else (LORA_FILE,)


def make_plan(settings: GenerateSettings, frames: int) -> SamplingPlan:
    """Resolve the options for a clip.

    Args:
        settings: the options.
        frames: n, number of frames of the clip.

    Raises:
        InputError: there are too few frames or too many azimuths, or some azimuths share the orbit
            model's nearest view.
    """
    if frames < MIN_FRAMES:
        raise InputError(
            f"expected a clip of at least {MIN_FRAMES} frames for {settings.model}, found "
            f"{frames}; use a longer part of the video, or the model lift"
        )
    preset = presets[settings.model]
    azimuths = settings.azimuths_deg or preset.azimuths_deg
    if not settings.azimuths_deg and settings.views not in (None, len(azimuths)):
        azimuths = even_azimuths(settings.views or 0)
    orbit_model, orbit = None, ()
    if preset.uses_orbit_model:
        orbit_model = settings.orbit_model or preset.orbit_model
        azimuths, orbit = _orbit(settings.model, orbit_model, azimuths)
    elevation = settings.elevation_deg
    return SamplingPlan(
        preset=preset,
        orbit_model=orbit_model,
        azimuths_deg=azimuths,
        orbit_azimuths_deg=orbit,
        elevation_deg=preset.elevation_deg if elevation is None else elevation,
        fov_deg=settings.fov_deg,
        distance=settings.distance,
        clockwise=settings.clockwise,
        windows=tuple(preset.windows(frames)),
        steps=settings.steps or preset.steps,
        orbit_steps=settings.steps or preset.orbit_steps,
        coarse_size=preset.coarse_size,
        fine=not settings.coarse_only,
        seed=settings.seed,
    )


def _orbit(
    model: str, orbit_model: str, azimuths: tuple[float, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Choose the orbit of the reference views.

    SV3D_u has no camera conditioning, so azimuths are rounded to the nearest of its fixed orbit.

    Returns:
        The azimuths of the reference views, and the azimuths of the whole orbit.
    """
    default = presets[model].orbit_azimuths_deg
    if len(azimuths) >= len(default):
        raise InputError(
            f"expected at most {len(default) - 1} views for {model}, found {len(azimuths)}"
        )
    orbit = default if orbit_model == "sv3d_u" else orbit_through(azimuths, default)
    picked = tuple(orbit[index] for index in pick_from_orbit(azimuths, orbit))
    if len(set(picked) - {orbit[-1]}) < len(azimuths):
        raise InputError(
            f"expected azimuths with different nearest views on {orbit_model}'s orbit, which has "
            f"one every {360 / len(default):.2f}°, found {azimuths}; choose other azimuths, or "
            "the orbit model sv3d_p"
        )
    return picked, orbit


def orbit_through(
    azimuths_deg: tuple[float, ...], default_deg: tuple[float, ...] = ORBIT_AZIMUTHS_DEG
) -> tuple[float, ...]:
    """Choose an orbit for SV3D_p or mini that contains given azimuths and ends at the input view.

    Args:
        azimuths_deg: distinct azimuths within (0, 360), fewer than in the default orbit.
        default_deg: azimuths of the default orbit.

    Returns:
        Ascending azimuths, as many as in the default orbit: the default orbit itself if it contains
        all given azimuths, else the given ones, with views inserted by halving the widest gaps.
    """
    if all(_nearest(azimuth, default_deg)[1] < 1e-6 for azimuth in azimuths_deg):
        return default_deg
    orbit = [0.0, *sorted(azimuths_deg), 360.0]
    while len(orbit) < len(default_deg) + 1:
        gaps = [after - before for before, after in itertools.pairwise(orbit)]
        widest = gaps.index(max(gaps))
        orbit.insert(widest + 1, orbit[widest] + gaps[widest] / 2)
    return tuple(orbit[1:])


def pick_from_orbit(
    azimuths_deg: tuple[float, ...], orbit_deg: tuple[float, ...]
) -> tuple[int, ...]:
    """Return the index of the orbit's nearest view for each azimuth."""
    return tuple(_nearest(azimuth, orbit_deg)[0] for azimuth in azimuths_deg)


def _nearest(azimuth: float, orbit: tuple[float, ...]) -> tuple[int, float]:
    """Return the index of the nearest azimuth, and its distance in degrees."""
    distances = [abs((azimuth - other + 180.0) % 360.0 - 180.0) for other in orbit]
    return distances.index(min(distances)), min(distances)
