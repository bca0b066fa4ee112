"""One grid of views, pass by pass: a network at one size, on the way that its stage says.

    clip ─▶ latents, CLIP tokens ─┐
    frame 0 ─▶ orbit (SV4D only) ─┴▶ passes, each saved ─▶ latents of n × V ─▶ images

Letters: n frames of the clip, T frames and V views of a pass, F = T·V, c channels and h × w pixels
of latents. Where the network makes the input's own view, what it makes of it is never looked at:
the input is seen in its place. What it does not know: which stages there are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from generation.checkpoint import State, load_state, save_state
from generation.clip.preparing import PreparedClip
from generation.conditioning import (
    augmentation_vector,
    azimuth_rad,
    camera_vector,
    grid_conditioning,
    orbit_conditioning,
    polar_rad,
    relative_polar_rad,
    without_image,
)
from generation.diffusion import (
    Denoiser,
    euler,
    guided_denoiser,
    karras_sigmas,
    orbit_scale,
    reversed_in_time,
    start,
)
from generation.models.vae import LATENT_SIDE
from generation.networks import Networks, predictor, working_dtype
from generation.presets import Plan, pick_from_orbit
from generation.progress import StepCounter
from generation.settings import GenerateSettings
from generation.stages import SEEDS, Stage, enlarged, reduced
from generation.weights.model_weights import ModelWeights
from generation.windows import Window
from recon.errors import DivergedError
from recon.grid.grid import composite

ORBIT_SEED = -1  # counts as the pass before the first


@dataclass(frozen=True)
class Job:
    """One generation: what all of its stages were told.

    Attributes:
        clip: the input.
        folder: of the grid, in which the passes are saved.
        settings: what to make.
        plan: what they mean.
        weights: opened weights by the names in `Plan.models`.
        identity: what a saved state must have been made with to be gone on with.
        counter: of the steps of all stages.
    """

    clip: PreparedClip
    folder: Path
    settings: GenerateSettings
    plan: Plan
    weights: Mapping[str, ModelWeights]
    identity: dict[str, Any]
    counter: StepCounter

    @cached_property
    def video(self) -> Tensor:
        """The input over white in [−1, 1], [n, 3, H, W]."""
        frames = composite(self.clip.images)
        return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1

    @property
    def inputs_own(self) -> int:
        """How many of the network's views are the input's, 0 or 1."""
        return int(self.plan.preset.denoises_input_view)


class Sampling(NamedTuple):
    """One run of the sampler.

    Attributes:
        title: what it makes, for people.
        shape: of the latents, [F, c, h, w].
        seed: number of its noise, from `ORBIT_SEED` to below `SEEDS` − 1.
        steps: of it.
        done: steps of the whole generation before it.
    """

    title: str
    shape: tuple[int, ...]
    seed: int
    steps: int
    done: int


class Run:
    """One grid: the stage that makes it, and the state that its passes leave."""

    def __init__(self, job: Job, stage: Stage, orbit: Tensor | None = None):
        """Takes up what was saved.

        Args:
            job: what was told.
            stage: how the grid is made.
            orbit: generated views of frame 0, where a stage before has them.
        """
        self.job, self.stage = job, stage
        self.settings, self.plan = job.settings, job.plan
        self.device = torch.device(job.settings.device)
        self.video = stage.resized(job.video)
        saved = load_state(job.folder, job.identity, stage.state)
        self.state = saved or self._fresh_state(orbit)

    def views(self) -> Tensor:
        """Images of all frames and views of the network in [−1, 1], [n, V, 3, H, W]."""
        if self.plan.orbit_model and self.state.orbit is None:
            with self._timed("orbit"):
                networks = self._networks(self.plan.orbit_model)
                self.state.orbit = self._orbit(networks)
                del networks  # the next ones take its place on the device
            self._save()
        with self._timed("load"):
            networks = self._networks(self.plan.preset.model)
            self.stage.prepare(networks)
        with self._timed("encode"):
            latents, tokens = networks.latents(self.video), networks.tokens(self.video)
        for number in range(self.state.passes, len(self.plan.windows)):
            with self._timed("sample"):
                this = self.plan.windows[number]
                self._run_pass(networks, this, number, latents, tokens)
                self.state.passes = number + 1
            self._save()
        with self._timed("decode"):
            return torch.stack([self._images(networks, frame) for frame in range(len(self.video))])

    def _orbit(self, networks: Networks) -> Tensor:
        """Generated views of frame 0 at the plan's azimuths and the preset's size, [·, 3, H, W]."""
        settings, todo = self.settings, self.plan
        image, views = self.job.video[:1], len(todo.orbit_azimuths_deg)
        if todo.preset.orbit_size is not None:
            image = reduced(image, todo.preset.orbit_size)
        if todo.orbit_model == "sv3d_u":
            vector = augmentation_vector(views)
        else:
            polar = polar_rad([todo.elevation_deg] * views)
            vector = camera_vector(polar, azimuth_rad(todo.orbit_azimuths_deg))
        conditioning = orbit_conditioning(
            networks.latents(image)[0], networks.tokens(image)[0], vector
        ).to(self.device)
        denoise = guided_denoiser(
            networks.predict,
            conditioning,
            without_image(conditioning),
            orbit_scale(views, *todo.preset.orbit_guidance),
            together=not settings.low_memory,
        )
        shape = (views, *conditioning.concat.shape[1:])
        what = Sampling("orbit of frame 0", shape, ORBIT_SEED, todo.orbit_steps, 0)
        latents = self._sample(networks, [denoise], what)
        return networks.images(
            latents[list(pick_from_orbit(todo.azimuths_deg, todo.orbit_azimuths_deg))]
        )

    def _run_pass(
        self, networks: Networks, this: Window, number: int, latents: Tensor, tokens: Tensor
    ) -> None:
        """Makes the frames of one pass."""
        T, V = len(this.frames), len(self.plan.network_azimuths_deg)
        frames = list(this.frames)
        denoisers = [self._denoiser(networks, frames, this.reference, latents, tokens)]
        if this.backward_reference is not None:  # its turn comes first
            backward = self._denoiser(
                networks, frames[::-1], this.backward_reference, latents, tokens
            )
            denoisers.insert(0, reversed_in_time(backward, T))
        shape = (T * V, *self.state.latents.shape[2:])
        what = Sampling(
            self.stage.titled(this.name),
            shape,
            self.stage.first_seed + number,
            self.plan.steps,
            self.plan.steps_before(self.stage.grids_before, number),
        )
        x = self._sample(networks, denoisers, what)
        self.state.latents[frames] = x.unflatten(0, (T, V))
        self.state.made[frames] = True

    def _denoiser(
        self,
        networks: Networks,
        frames: list[int],
        reference: int | None,
        latents: Tensor,
        tokens: Tensor,
    ) -> Denoiser:
        """Of frames in the order in which the network sees them."""
        todo, azimuths = self.plan, self.plan.network_azimuths_deg
        if reference is None:
            seen = torch.zeros_like(self.state.latents[0])
        else:
            seen = networks.reference_latents(self._images(networks, reference))
        polars = polar_rad if todo.preset.uses_orbit_model else self._relative_polar_rad
        vector = camera_vector(polars([todo.elevation_deg] * len(azimuths)), azimuth_rad(azimuths))
        conditioning = grid_conditioning(latents[frames], tokens[frames], vector, seen)
        conditioning = conditioning.to(self.device)
        return guided_denoiser(
            predictor(networks.unet, self.stage.inject(networks, latents, frames)),
            conditioning,
            without_image(conditioning),
            todo.preset.guidance(len(frames), len(azimuths)),
            together=not self.settings.low_memory,
        )

    def _relative_polar_rad(self, elevations_deg: list[float]) -> Tensor:
        return relative_polar_rad(elevations_deg, self.plan.elevation_deg)

    @torch.inference_mode()
    def _sample(self, networks: Networks, denoisers: list[Denoiser], what: Sampling) -> Tensor:
        """Latents of one run of the sampler, on the CPU."""
        sigmas = karras_sigmas(what.steps)
        generator = torch.Generator().manual_seed(self.settings.seed * SEEDS + what.seed + 1)
        noise = torch.randn(what.shape, generator=generator)
        count = self.job.counter.counting(what.title, what.done)
        with networks.working(networks.unet):
            try:
                x = start(noise.to(self.device), sigmas)
                return euler(denoisers, x, sigmas, count).cpu()
            except DivergedError as error:
                raise DivergedError(f"{what.title}: {error}; {self._advice()}") from error

    def _advice(self) -> str:
        dtype = str(working_dtype(self.settings)).removeprefix("torch.")
        if dtype == "float32":
            return "check the weights with `fourdvd models verify`"
        return f"numbers too large for {dtype}: try --precision float32"

    def _images(self, networks: Networks, frame: int) -> Tensor:
        """Views of a frame that is made, in [−1, 1], [V, 3, H, W]; the input's is the input."""
        own = self.job.inputs_own
        if self.state.made[frame]:
            views = networks.images(self.state.latents[frame, own:])
        else:
            assert frame == 0 and self.state.orbit is not None
            orbit = self.stage.resized(self.state.orbit)
            views = enlarged(orbit[None], self.video.shape[-1])[0]
        return torch.cat([self.video[frame : frame + own], views])

    def _networks(self, name: str) -> Networks:
        dtype, low_memory = working_dtype(self.settings), self.settings.low_memory
        return self.job.weights[name].load(self.device, dtype, low_memory)

    def _fresh_state(self, orbit: Tensor | None) -> State:
        n, V = len(self.video), len(self.plan.network_azimuths_deg)
        height, width = (side // LATENT_SIDE for side in self.video.shape[-2:])
        channels = self.plan.preset.config.out_channels
        latents = torch.zeros(n, V, channels, height, width)
        return State(latents, torch.zeros(n, dtype=torch.bool), orbit, 0, {})

    def _save(self) -> None:
        save_state(self.job.folder, self.state, self.job.identity, self.stage.state)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began, name = time.monotonic(), self.stage.titled(part)
        yield
        seconds = self.state.seconds
        seconds[name] = seconds.get(name, 0.0) + time.monotonic() - began
