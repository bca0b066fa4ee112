"""From a prepared clip to a grid of views, on one page.

    clip ─▶ latents, CLIP tokens ─┐
    frame 0 ─▶ orbit (SV4D only) ─┴▶ passes, each saved ─▶ latents of n × V ─▶ images ─▶ grid

Letters: n frames of the clip, T frames and V views of a pass, F = T·V, h × w latent pixels. View 0
of the grid is the input; the network makes the other V. What it does not know: who looks at the
progress, and how.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from generation.anchors import Pass
from generation.checkpoint import (
    State,
    check_folder,
    discard_other,
    load_state,
    save_state,
    write_input,
)
from generation.clip_writing import write_clip
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
from generation.diffusion.denoiser import Denoiser, guided_denoiser
from generation.diffusion.guidance import orbit_scale
from generation.diffusion.sampler import euler, reversed_in_time, start
from generation.diffusion.schedule import karras_sigmas
from generation.models.vae import LATENT_SIDE
from generation.networks import Networks, load_networks, working_dtype
from generation.planning import Plan, plan
from generation.preprocess import PreparedClip
from generation.recipes import ORBIT_CONFIGS, ORBIT_SCALE, ORBIT_VIEWS, pick_from_orbit
from generation.report import generation_report
from generation.settings import GenerateSettings, check_size
from generation.weights import PublishedWeights
from recon.errors import DivergedError, Interrupted, OutOfMemoryError
from recon.grid import Grid, grid_from_views
from recon.grid.grid import composite
from recon.grid.matte import border_colour, matte
from recon.grid.writing import write_posed_images, write_previews
from recon.output import output_folder, write_json

WHITE = np.ones(3)
DECISIVE = tuple(sorted(GenerateSettings.__dataclass_fields__.keys() - {"low_memory"}))
ORBIT_SEED = -1  # counts as the pass before the first
SEEDS = 1_000_003  # passes that one seed has noise for


class Progress(NamedTuple):
    """How far a generation is.

    Attributes:
        stage: what is made, for people.
        step: steps made, of all passes together.
        steps: of all.
        seconds_left: estimate for the steps.
    """

    stage: str
    step: int
    steps: int
    seconds_left: float


class Generated(NamedTuple):
    """A finished grid, and what `generate.json` says of it."""

    grid: Grid
    report: dict[str, Any]


def generate(
    clip: PreparedClip,
    folder: Path,
    settings: GenerateSettings,
    weights: Mapping[str, PublishedWeights],
    *,
    overwrite: bool = False,
    on_step: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Generated:
    """Makes the grid folder of a clip, or goes on with one that was interrupted.

    Args:
        clip: the input.
        folder: of the grid; complete at the end, resumable after each pass until then.
        settings: what to make.
        weights: of the models that `Plan.needs` names.
        overwrite: whether a finished folder, or an unfinished one of other settings, may be
            replaced.
        on_step: called after every step of the sampler.
        should_stop: asked after every step; True stops. The passes that are done are saved.

    Returns:
        The grid, as written: view 0 is the input. And how it was made.

    Raises:
        InputError: the frames are not of a size that the networks take.
        OutputExistsError: the folder holds something else and `overwrite` is False.
        WeightsError: the weights are not those of the networks.
        Interrupted: `should_stop` said so.
        DivergedError: the networks gave numbers that are not finite.
        OutOfMemoryError: the accelerator's memory is spent; the passes that are done are saved.
    """
    folder = Path(folder)
    check_folder(folder, overwrite)
    if overwrite:
        discard_other(folder, identity_of(clip, settings, weights))
    check_size(clip.images.shape[1])
    todo = plan(settings, len(clip.images))
    write_input(folder, clip)
    run = Run(clip, folder, settings, todo, weights, on_step, should_stop)
    with ThreadPoolExecutor() as pool, _memory_errors(settings):
        hashes = {name: pool.submit(file.sha256) for name, file in weights.items()}
        views = run.views()
        grid = _grid(clip, views, settings, todo)
        report = generation_report(
            clip,
            settings,
            todo,
            weights,
            {name: found.result() for name, found in hashes.items()},
            run.state.seconds,
        )
    with output_folder(folder, overwrite=True) as partial:  # what is there is this run's own state
        write_posed_images(grid, partial)
        write_previews(grid, partial)
        (partial / "input").mkdir()
        write_clip(clip, partial / "input")
        write_json(partial / "generate.json", report)
    return Generated(grid, report)


class Run:
    """One generation: what it was told, and the state that passes leave."""

    def __init__(
        self,
        clip: PreparedClip,
        folder: Path,
        settings: GenerateSettings,
        todo: Plan,
        weights: Mapping[str, PublishedWeights],
        on_step: Callable[[Progress], None] | None,
        should_stop: Callable[[], bool] | None,
    ):
        self.clip, self.folder, self.settings, self.plan = clip, folder, settings, todo
        self.weights = weights
        self.on_step = on_step or (lambda progress: None)
        self.should_stop = should_stop or (lambda: False)
        self.device = torch.device(settings.device)
        self.identity = identity_of(clip, settings, weights)
        frames = composite(clip.images)
        self.video = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
        self.state = load_state(folder, self.identity) or self._fresh_state()
        self.step = 0
        self.first_step: int | None = None  # of this process
        self.began = time.monotonic()

    def views(self) -> Tensor:
        """Images of all frames and generated views in [−1, 1], [n, V, 3, H, W]."""
        if self.plan.orbit_deg and self.state.orbit is None:
            with self._stage("orbit"):
                networks = self._networks(self.settings.orbit_model)
                self.state.orbit = self._orbit(networks)
                del networks  # the next ones take its place on the device
            self._save()
        with self._stage("load"):
            networks = self._networks(self.plan.recipe.model)
        with self._stage("encode"):
            latents, tokens = networks.latents(self.video), networks.tokens(self.video)
        for number in range(self.state.passes, len(self.plan.passes)):
            with self._stage("sample"):
                this = self.plan.passes[number]
                self._run_pass(networks, this, number, latents, tokens)
                self.state.passes = number + 1
            self._save()
        with self._stage("decode"):
            return torch.stack([self._images(networks, frame) for frame in range(len(self.video))])

    def _orbit(self, networks: Networks) -> Tensor:
        """Views of frame 0 at the plan's azimuths, [V, 3, H, W]."""
        settings, todo = self.settings, self.plan
        image = self.video[:1]
        if settings.orbit_model == "sv3d_p":
            polar = polar_rad([todo.elevation_deg] * ORBIT_VIEWS)
            vector = camera_vector(polar, azimuth_rad(todo.orbit_deg))
        else:
            vector = augmentation_vector(ORBIT_VIEWS)
        conditioning = orbit_conditioning(
            networks.latents(image)[0], networks.tokens(image)[0], vector
        ).to(self.device)
        denoise = guided_denoiser(
            networks.predict,
            conditioning,
            without_image(conditioning),
            orbit_scale(ORBIT_VIEWS, *ORBIT_SCALE),
            together=not settings.low_memory,
        )
        latents = self._sample(networks, [denoise], ORBIT_VIEWS, ORBIT_SEED, "orbit of frame 0")
        return networks.images(latents[list(pick_from_orbit(todo.azimuths_deg, todo.orbit_deg))])

    def _run_pass(
        self, networks: Networks, this: Pass, number: int, latents: Tensor, tokens: Tensor
    ) -> None:
        """Makes the frames of one pass."""
        T, V = len(this.frames), len(self.plan.azimuths_deg)
        frames = list(this.frames)
        denoisers = [self._denoiser(networks, frames, this.reference, latents, tokens)]
        if this.backward_reference is not None:  # its turn comes first
            backward = self._denoiser(
                networks, frames[::-1], this.backward_reference, latents, tokens
            )
            denoisers.insert(0, reversed_in_time(backward, T))
        x = self._sample(networks, denoisers, T * V, number, this.name)
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
        todo = self.plan
        if reference is None:
            seen = torch.zeros_like(self.state.latents[0])
        else:
            seen = networks.reference_latents(self._images(networks, reference))
        polars = polar_rad if todo.recipe.from_orbit else self._relative_polar_rad
        vector = camera_vector(
            polars([todo.elevation_deg] * len(todo.azimuths_deg)), azimuth_rad(todo.azimuths_deg)
        )
        conditioning = grid_conditioning(latents[frames], tokens[frames], vector, seen)
        conditioning = conditioning.to(self.device)
        return guided_denoiser(
            networks.predict,
            conditioning,
            without_image(conditioning),
            todo.recipe.scale(len(frames), len(todo.azimuths_deg)),
            together=not self.settings.low_memory,
        )

    def _relative_polar_rad(self, elevations_deg: list[float]) -> Tensor:
        return relative_polar_rad(elevations_deg, self.plan.elevation_deg)

    @torch.inference_mode()
    def _sample(
        self, networks: Networks, denoisers: list[Denoiser], frames: int, number: int, stage: str
    ) -> Tensor:
        """Latents of one run of the sampler, on the CPU, [F, 4, h, w]."""
        sigmas = karras_sigmas(self.plan.steps)
        generator = torch.Generator().manual_seed(self.settings.seed * SEEDS + number + 1)
        noise = torch.randn(frames, *self.state.latents.shape[2:], generator=generator)
        done = self.plan.steps * (number + 1 if self.plan.orbit_deg else number)

        def count(step: int) -> None:
            self.step = done + step
            self._tell(stage)

        if self.first_step is None:
            self.first_step, self.began = done, time.monotonic()
        with networks.working(networks.unet):
            try:
                x = start(noise.to(self.device), sigmas)
                return euler(denoisers, x, sigmas, count).cpu()
            except DivergedError as error:
                raise DivergedError(f"{stage}: {error}; {self._advice()}") from error

    def _tell(self, stage: str) -> None:
        pace = (time.monotonic() - self.began) / (self.step - (self.first_step or 0))
        left = pace * (self.plan.all_steps - self.step)
        self.on_step(Progress(stage, self.step, self.plan.all_steps, left))
        if self.should_stop():
            raise Interrupted(
                "stopped; the finished passes are saved, and the same command goes on after them"
            )

    def _advice(self) -> str:
        dtype = str(working_dtype(self.settings)).removeprefix("torch.")
        if dtype == "float32":
            return "check the weights with `fourdvd models verify`"
        return f"numbers too large for {dtype}: try --precision float32"

    def _images(self, networks: Networks, frame: int) -> Tensor:
        """Views of a frame that is made, in [−1, 1], [V, 3, H, W]."""
        if self.state.made[frame]:
            return networks.images(self.state.latents[frame])
        assert frame == 0 and self.state.orbit is not None
        return self.state.orbit

    def _networks(self, name: str) -> Networks:
        recipe = self.plan.recipe
        config = recipe.config if name == recipe.model else ORBIT_CONFIGS[name]
        return load_networks(
            self.weights[name],
            config,
            self.device,
            working_dtype(self.settings),
            self.settings.low_memory,
        )

    def _fresh_state(self) -> State:
        n, V = len(self.video), len(self.plan.azimuths_deg)
        height, width = (side // LATENT_SIDE for side in self.video.shape[-2:])
        return State(
            torch.zeros(n, V, 4, height, width), torch.zeros(n, dtype=torch.bool), None, 0, {}
        )

    def _save(self) -> None:
        save_state(self.folder, self.state, self.identity)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        seconds = self.state.seconds
        seconds[name] = seconds.get(name, 0.0) + time.monotonic() - began


def identity_of(
    clip: PreparedClip, settings: GenerateSettings, weights: Mapping[str, PublishedWeights]
) -> dict[str, Any]:
    """What an unfinished generation must have in common with the one that goes on with it."""
    return {
        "settings": {name: asdict(settings)[name] for name in DECISIVE},
        "clip": hashlib.sha256(clip.images.tobytes()).hexdigest(),
        "weights": {name: file.verification.size_bytes for name, file in weights.items()},
    }


def _grid(clip: PreparedClip, views: Tensor, settings: GenerateSettings, todo: Plan) -> Grid:
    """The input and the generated views [n, V, 3, H, W] with their cameras."""
    pixels = ((views + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    generated = pixels.permute(1, 0, 3, 4, 2).numpy()  # [V, n, H, W, 3]
    background = border_colour(generated.reshape(-1, *generated.shape[-3:]))
    background = WHITE if background is None else background
    cut = [[matte(image, background) for image in view] for view in generated]
    images = np.concatenate([clip.images[None], np.asarray(cut)])
    cameras = todo.cameras(settings, views.shape[-1])
    return grid_from_views(cameras, images, clip.fps, alpha_known=False)


@contextmanager
def _memory_errors(settings: GenerateSettings) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = "a smaller --size" if settings.low_memory else "--low-memory, or a smaller --size"
        raise OutOfMemoryError(
            "the accelerator has too little memory for this; the finished passes are saved",
            hint=f"try {smaller}; with --low-memory it goes on after the saved passes",
        ) from error
