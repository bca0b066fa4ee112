"""Sampling of reference views, and of one grid of views × frames, window by window.

    frame 0 ──orbit model──▶ reference views ─┐
    video ──▶ latents, image tokens ──────────┴▶ window, window, … ──▶ latents ──▶ images
                                      (coarse: LoRA; fine: structure branch on the coarse grid)

Latents are saved after every window. Where the network also denoises the input view, its result is
never used: the input itself takes its place.

Letters: n frames of the clip, T frames and V views of a window, C channels and h × w pixels of
latents, H × W pixels of images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from generation.checkpoint import Checkpoint
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
from generation.models.structure_branch import Structure, StructureBranch
from generation.models.vae import LATENT_SIDE
from generation.networks import Networks, predictor
from generation.presets import SamplingPlan, pick_from_orbit
from generation.windows import Window
from recon.errors import DivergedError, Interrupted
from recon.progress import Eta, OnStep, Progress, ShouldStop, ignore_progress, never_stop

SEEDS = 1_000_003  # number of sampler runs with separate noise for each seed
ORBIT_RUN = -1  # number of the orbit model's run
COARSE_RUNS = SEEDS // 2  # number of the coarse stage's first run
REFERENCE_VIEWS = "reference_views"


@dataclass
class Job:
    """Plan, input and callbacks that all sampler runs of one generation share.

    Attributes:
        plan: plan of the generation.
        video: the input on white in [−1, 1], float32, [n, 3, H, W].
        checkpoint: checkpoint that finished runs are saved to.
        on_step: called after every denoising step.
        should_stop: called after every denoising step; True stops the generation.
        seconds: time spent on each phase so far, including earlier interrupted runs.
    """

    plan: SamplingPlan
    video: Tensor
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    on_step: OnStep = ignore_progress
    should_stop: ShouldStop = never_stop
    seconds: dict[str, float] = field(default_factory=dict)
    _eta: Eta | None = None

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the duration of the block to `seconds`."""
        began = time.monotonic()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - began

    def counter(self, title: str, steps_before: int) -> Callable[[int], None]:
        """Make the `on_step` of one sampler run.

        Args:
            title: title of the run in progress reports.
            steps_before: denoising steps of all runs before it.

        Returns:
            A function of the number of steps done; raises Interrupted if a stop is requested.
        """
        total = self.plan.total_steps
        eta = self._eta = self._eta or Eta(total - steps_before)

        def count(step: int) -> None:
            eta.tick()
            self.on_step(Progress(title, steps_before + step, total, eta.seconds_left))
            if self.should_stop():
                saved = "; the finished windows are saved"
                raise Interrupted("stopped" + (saved if self.checkpoint.folder else ""))

        return count


class SamplerRun(NamedTuple):
    """One run of the sampler.

    Attributes:
        title: title in messages and progress reports.
        shape: shape of the latents, [N, C, h, w].
        number: number of the run, which selects its noise, from `ORBIT_RUN` to `SEEDS` − 2.
        steps: number of denoising steps.
        steps_before: denoising steps of all runs before it.
    """

    title: str
    shape: tuple[int, ...]
    number: int
    steps: int
    steps_before: int


@torch.inference_mode()
def sample_latents(
    job: Job, networks: Networks, denoisers: Sequence[Denoiser], run: SamplerRun
) -> Tensor:
    """Denoise from noise to latents on the CPU; the noise depends on seed and run alone.

    Raises:
        DivergedError: the networks gave values that are not finite.
        Interrupted: `job.should_stop` returned True.
    """
    sigmas = karras_sigmas(run.steps)
    generator = torch.Generator().manual_seed(job.plan.seed * SEEDS + run.number + 1)
    noise = torch.randn(run.shape, generator=generator)
    count = job.counter(run.title, run.steps_before)
    with networks.working(networks.unet):
        try:
            x = start(noise.to(networks.device), sigmas)
            return euler(denoisers, x, sigmas, count).cpu()
        except DivergedError as error:
            advice = _advice(networks.unet.dtype)
            raise DivergedError(f"{run.title}: {error}; {advice}") from error


def sample_reference_views(job: Job, load_networks: Callable[[], Networks]) -> Tensor:
    """Sample the views of frame 0 with the orbit model, or read the saved ones.

    Args:
        job: a generation whose plan has an orbit model.
        load_networks: loads the orbit model's networks, if they are needed.

    Returns:
        The views at the plan's azimuths in [−1, 1], [V, 3, H, W] of the input's size, or smaller
        if the preset limits it.
    """
    saved = job.checkpoint.load(REFERENCE_VIEWS)
    if saved is not None:
        job.seconds |= saved.description["seconds"]
        return saved.tensors["views"]
    with job.timed("orbit"):
        views = _orbit(job, load_networks())
    job.checkpoint.save(REFERENCE_VIEWS, {"views": views}, {"seconds": job.seconds})
    return views


def _orbit(job: Job, networks: Networks) -> Tensor:
    plan, preset = job.plan, job.plan.preset
    image, V = job.video[:1], len(plan.orbit_azimuths_deg)
    if preset.orbit_size is not None:
        image = reduced(image, preset.orbit_size)
    if plan.orbit_model == "sv3d_u":
        vector = augmentation_vector(V)
    else:
        polar = polar_rad([plan.elevation_deg] * V)
        vector = camera_vector(polar, azimuth_rad(plan.orbit_azimuths_deg))
    conditioning = orbit_conditioning(
        networks.latents(image)[0], networks.tokens(image)[0], vector
    ).to(networks.device)
    denoise = guided_denoiser(
        networks.predict,
        conditioning,
        without_image(conditioning),
        orbit_scale(V, *preset.orbit_guidance),
        together=not networks.low_memory,
    )
    shape = (V, *conditioning.concat.shape[1:])
    run = SamplerRun("reference views", shape, ORBIT_RUN, plan.orbit_steps, 0)
    latents = sample_latents(job, networks, [denoise], run)
    return networks.images(
        latents[list(pick_from_orbit(plan.azimuths_deg, plan.orbit_azimuths_deg))]
    )


class Stage(NamedTuple):
    """One grid of a generation: the coarse or the fine one of a cascade, or the only one.

    Attributes:
        name: name of its checkpoint: "coarse", "fine", or "grid" for the only one.
        size: side of the images in pixels.
        first_run: number of its first sampler run, see `SamplerRun`.
        stages_before: number of stages sampled before it.
    """

    name: str
    size: int
    first_run: int = 0
    stages_before: int = 0

    def title(self, part: str) -> str:
        """Return the title of a phase of this stage in messages and times."""
        return part if self.name == "grid" else f"{self.name} {part}"


@dataclass
class GridSampler:
    """Sample one grid, window by window.

    Attributes:
        job: the generation.
        stage: the grid to sample.
        networks: networks of the base model; for the coarse stage with the LoRA merged.
        reference_views: views of frame 0 in [−1, 1], [V, 3, H, W]; None: the first window has no
            reference views.
        branch: structure branch of the fine stage.
        coarse_views: coarse grid in [−1, 1], [n, V, 3, H, W], on which the branch is conditioned.
    """

    job: Job
    stage: Stage
    networks: Networks
    reference_views: Tensor | None = None
    branch: StructureBranch | None = None
    coarse_views: Tensor | None = None

    def sample(self) -> Tensor:
        """Sample the windows that are missing and decode the grid.

        Returns:
            Images of all frames and views in [−1, 1], [n, V, 3, H, W]. If the network denoises the
            input view, that is the first view; else only the generated views are returned.
        """
        plan, job, networks = self.job.plan, self.job, self.networks
        self.video = reduced(job.video, self.stage.size)
        self._restore()
        with job.timed(self.stage.title("encode")):
            self.video_latents = networks.latents(self.video)
            self.video_tokens = networks.tokens(self.video)
            if self.coarse_views is not None:
                shape = self.coarse_views.shape[:2]
                flat = self.coarse_views.flatten(0, 1)
                self.coarse_latents = networks.latents(flat).unflatten(0, shape)
        for number in range(self.windows_done, len(plan.windows)):
            with job.timed(self.stage.title("sample")):
                self._sample_window(plan.windows[number], number)
            self.windows_done = number + 1
            self._save()
        with job.timed(self.stage.title("decode")):
            return torch.stack([self._views(frame) for frame in range(len(self.video))])

    def _sample_window(self, window: Window, number: int) -> None:
        plan, frames = self.job.plan, list(window.frames)
        T, V = len(frames), len(plan.network_azimuths_deg)
        denoisers = [self._denoiser(frames, window.reference)]
        if window.backward_reference is not None:  # the first step runs backward in time
            backward = self._denoiser(frames[::-1], window.backward_reference)
            denoisers.insert(0, reversed_in_time(backward, T))
        run = SamplerRun(
            self.stage.title(window.name),
            (T * V, *self.latents.shape[2:]),
            self.stage.first_run + number,
            plan.steps,
            plan.steps_before(self.stage.stages_before, number),
        )
        x = sample_latents(self.job, self.networks, denoisers, run)
        self.latents[frames] = x.unflatten(0, (T, V))
        self.frames_done[frames] = True

    def _denoiser(self, frames: list[int], reference: int | None) -> Denoiser:
        """Make the denoiser of a window; `frames` are in the order of the network's input."""
        plan, networks, azimuths = self.job.plan, self.networks, self.job.plan.network_azimuths_deg
        if reference is None:
            reference_latents = torch.zeros_like(self.latents[0])
        else:
            reference_latents = networks.reference_latents(self._views(reference))
        elevations = [plan.elevation_deg] * len(azimuths)
        if plan.preset.uses_orbit_model:
            polar = polar_rad(elevations)
        else:
            polar = relative_polar_rad(elevations, plan.elevation_deg)
        conditioning = grid_conditioning(
            self.video_latents[frames],
            self.video_tokens[frames],
            camera_vector(polar, azimuth_rad(azimuths)),
            reference_latents,
        ).to(networks.device)
        return guided_denoiser(
            predictor(networks.unet, self._residuals(frames)),
            conditioning,
            without_image(conditioning),
            plan.preset.guidance(len(frames), len(azimuths)),
            together=not networks.low_memory,
        )

    @torch.inference_mode()
    def _residuals(self, frames: list[int]):
        """Run the structure branch; its feature residuals are added in the UNet. None without."""
        if self.branch is None:
            return None
        structure = Structure(
            self.coarse_latents[frames].unsqueeze(0), self.video_latents[frames].unsqueeze(0)
        )
        return self.branch(Structure(*(part.to(self.networks.device) for part in structure)))

    def _views(self, frame: int) -> Tensor:
        """Decode the views of a finished frame, [V, 3, H, W] in [−1, 1], input view included."""
        own = int(self.job.plan.preset.denoises_input_view)
        if self.frames_done[frame]:
            views = self.networks.images(self.latents[frame, own:])
        else:
            assert frame == 0 and self.reference_views is not None
            views = reduced(self.reference_views, self.stage.size)
            views = enlarged(views[None], self.video.shape[-1])[0]
        return torch.cat([self.video[frame : frame + own], views])

    def _restore(self) -> None:
        """Load the checkpoint, or initialize an empty grid."""
        saved = self.job.checkpoint.load(self.stage.name)
        if saved is not None:
            self.latents = saved.tensors["latents"]
            self.frames_done = saved.tensors["frames_done"].bool()
            self.windows_done = saved.description["windows_done"]
            self.job.seconds |= saved.description["seconds"]
            return
        n, V = len(self.video), len(self.job.plan.network_azimuths_deg)
        height, width = (side // LATENT_SIDE for side in self.video.shape[-2:])
        channels = self.networks.unet.config.out_channels
        self.latents = torch.zeros(n, V, channels, height, width)
        self.frames_done = torch.zeros(n, dtype=torch.bool)
        self.windows_done = 0

    def _save(self) -> None:
        tensors = {"latents": self.latents, "frames_done": self.frames_done.to(torch.uint8)}
        notes = {"windows_done": self.windows_done, "seconds": self.job.seconds}
        self.job.checkpoint.save(self.stage.name, tensors, notes)


def reduced(images: Tensor, size: int) -> Tensor:
    """Downscale images [N, 3, H, W] to size², unless they are smaller."""
    if images.shape[-1] <= size:
        return images
    return interpolate(images, (size, size), mode="bilinear", antialias=True)


def enlarged(views: Tensor, size: int) -> Tensor:
    """Upscale views [n, V, 3, H, W] in [−1, 1] to size², unless they have that size."""
    if views.shape[-1] == size:
        return views
    large = interpolate(views.flatten(0, 1), (size, size), mode="bicubic", align_corners=False)
    return large.clamp(-1, 1).unflatten(0, views.shape[:2])


def _advice(dtype: torch.dtype) -> str:
    if dtype == torch.float32:
        return "check the weights with `fourdvd models verify`"
    name = str(dtype).removeprefix("torch.")
    return f"values too large for {name}: try --precision float32"
