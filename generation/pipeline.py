"""The pipeline from a clip to a grid of views × frames.

    clip ──square──▶ video ──orbit model──▶ reference views (SV4D and the cascades)
    video, reference views ──base network──▶ grid                              (published models)
    video, reference views ──base + LoRA──▶ coarse grid
                           ──base + structure branch on it──▶ grid             (cascades)

Letters: n frames of the clip, V generated views. View 0 of the grid is the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from generation.checkpoint import Checkpoint, check_folder, write_input
from generation.clip.matting import cut_soft_silhouette
from generation.clip.preparing import Clip, SquareClip
from generation.clip.writing import write_clip
from generation.cost import Estimate, estimate, measured_rate
from generation.grid_sampler import (
    COARSE_RUNS,
    GridSampler,
    Job,
    Stage,
    enlarged,
    sample_reference_views,
)
from generation.models.lora import merge_lora
from generation.models.structure_branch import StructureBranch
from generation.models.sv4d import SV4DUNet
from generation.networks import Networks, working_dtype
from generation.presets import Plan, make_plan, presets
from generation.report import generation_report
from generation.settings import GenerateSettings
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE
from generation.weights.files import WeightsFile, load_branch, load_lora
from generation.weights.model_weights import ModelWeights, open_cascade_files, open_models
from generation.weights.store import find_cascade_file
from recon.devices import resolve_network_device
from recon.errors import OutOfMemoryError
from recon.grid import Grid, grid_from_views
from recon.grid.grid import composite
from recon.grid.matte import border_color, matte
from recon.grid.writing import write_posed_images, write_previews
from recon.output import output_folder, write_json
from recon.progress import OnStep, ShouldStop, ignore_progress, never_stop
from recon.resume import fingerprint

WHITE = np.ones(3)
FINGERPRINT_FIELDS = tuple(sorted(GenerateSettings.__dataclass_fields__.keys() - {"low_memory"}))


class Generated(NamedTuple):
    """A grid, and the content of its `generate.json`."""

    grid: Grid
    report: dict[str, Any]


class SampledGrid(NamedTuple):
    """Sampled and decoded images of a grid.

    Attributes:
        views: images of the generated views in [−1, 1], [n, V, 3, H, W].
        seconds: time spent on each phase, by name.
    """

    views: Tensor
    seconds: dict[str, float]


def load_pipeline(
    name: str = "mini",
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    low_memory: bool = False,
    orbit_model: str | None = None,
    coarse_only: bool = False,
) -> Pipeline:
    """Find and open the weights of a model.

    Args:
        name: name of the model: "mini", "sv4d2", "sv4d2-8views", "sv4d" or "4dvd".
        weights: folder to search first; then `FOURDVD_WEIGHTS` and the Hugging Face cache. Nothing
            is downloaded.
        device: "cpu", "cuda", or "auto" for CUDA where it is available.
        precision: "float32", "bfloat16", "float16", or "auto" for bfloat16 on CUDA, else float32.
        low_memory: whether to save device memory at the expense of time.
        orbit_model: "sv3d_u" or "sv3d_p", for the reference views of sv4d and 4dvd.
        coarse_only: whether a cascade ends with its coarse grid, enlarged.

    Raises:
        InputError: a name is unknown.
        WeightsError: weights are missing, damaged or belong to another model.
        BackendError: the device is not available.

    Example:
        >>> pipeline = load_pipeline("mini")
        >>> grid = pipeline(load_clip("robot.mp4"), seed=0, on_step=print)
    """
    settings = GenerateSettings(
        model=name.replace("-", "_"),
        orbit_model=orbit_model,
        precision=precision,
        low_memory=low_memory,
        device=resolve_network_device(device),
        coarse_only=coarse_only,
    )
    return open_pipeline(settings, None if weights is None else Path(weights))


def open_pipeline(
    settings: GenerateSettings, weights_folder: Path | None = None, keep_networks: bool = True
) -> Pipeline:
    """Find and open the weights of a model; `load_pipeline` for options in a `GenerateSettings`.

    Args:
        settings: the options; their device must be resolved, not "auto".
        weights_folder: folder to search for weights first.
        keep_networks: whether networks stay in memory for the next grid.
    """
    plan = make_plan(settings, presets[settings.model].window_frames)
    cascade = {  # searched first: if missing, they take days to train, the others only a download
        name: find_cascade_file(name, plan.preset.model, weights_folder)
        for name in plan.cascade_files
    }
    weights = open_models(plan.models, weights_folder)
    return Pipeline(settings, weights, cascade, keep_networks)


@dataclass
class Pipeline:
    """A model with its weights, which generates grids of any number of clips.

    Attributes:
        settings: options of the model and the device; its options of the grid serve as defaults.
        weights: opened weights by model name.
        cascade: paths of the cascade's LoRA and structure branch, by file name.
        keep_networks: whether networks stay in memory for the next grid.
    """

    settings: GenerateSettings
    weights: Mapping[str, ModelWeights]
    cascade: Mapping[str, Path]
    keep_networks: bool = True
    _loaded: dict[str, StageNetworks] = field(default_factory=dict, init=False)

    def __call__(
        self,
        clip: Clip | SquareClip,
        *,
        seed: int = 0,
        steps: int | None = None,
        views: int | None = None,
        azimuths_deg: Sequence[float] = (),
        elevation_deg: float | None = None,
        size: int | None = None,
        on_step: OnStep = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> Grid:
        """Generate a grid in memory.

        Args:
            clip: the input; it is cut to the model's size.
            seed: seed of all noise.
            steps: denoising steps per window; None for the preset's.
            views: number of generated views, spaced evenly; None for the preset's.
            azimuths_deg: azimuths of the generated views relative to the input view, ascending
                within (0, 360); empty for the preset's.
            elevation_deg: elevation of the input view; None for the preset's.
            size: side of the grid's images in pixels, a multiple of 64; None for the preset's.
            on_step: called after every denoising step.
            should_stop: called after every denoising step; True stops the generation.

        Returns:
            The grid; view 0 is the input.

        Raises:
            InputError: a number is out of range.
            WeightsError: the weights do not fit the networks or each other.
            Interrupted: `should_stop` returned True.
            DivergedError: the networks gave values that are not finite.
            OutOfMemoryError: the device has too little memory.

        Example:
            >>> grid = load_pipeline("mini")(clip, seed=0, on_step=print)
            >>> grid.V, grid.T
            (16, 21)
        """
        settings = replace(
            self.settings,
            seed=seed,
            steps=steps,
            views=views,
            azimuths_deg=tuple(azimuths_deg),
            elevation_deg=elevation_deg,
            size=size,
        )
        square, plan = prepare(clip, settings)
        with _memory_errors(settings.low_memory, saved=False):
            sampled = self.sample(square, plan, Checkpoint(), on_step, should_stop)
        return to_grid(square, sampled.views, plan)

    def generate(
        self,
        clip: Clip | SquareClip,
        folder: str | Path,
        settings: GenerateSettings | None = None,
        *,
        overwrite: bool = False,
        on_step: OnStep = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> Generated:
        """Generate a grid folder, or resume an interrupted one.

        Args:
            clip: the input; it is cut to the model's size.
            folder: the grid folder; until it is complete it holds a checkpoint of each window.
            settings: options of the grid; those of the model and the device must be the pipeline's.
            overwrite: whether a finished folder, or an unfinished one with other settings, may be
                replaced.
            on_step: called after every denoising step.
            should_stop: called after every denoising step; True stops the generation.

        Raises:
            InputError: a number is out of range.
            OutputExistsError: the folder holds anything but this generation, unfinished, and
                `overwrite` is False.
            WeightsError: the weights do not fit the networks or each other.
            Interrupted: `should_stop` returned True; the finished windows are saved.
            DivergedError: the networks gave values that are not finite.
            OutOfMemoryError: the device has too little memory; the finished windows are saved.
        """
        folder, settings = Path(folder), settings or self.settings
        check_folder(folder, overwrite)
        square, plan = prepare(clip, settings)
        checkpoint = Checkpoint(folder, self._identity(square, settings))
        if overwrite:
            checkpoint.discard_other()
        write_input(folder, square)
        with ThreadPoolExecutor() as pool, _memory_errors(settings.low_memory, saved=True):
            hashing = pool.submit(self._hashes)  # while the networks run
            sampled = self.sample(square, plan, checkpoint, on_step, should_stop)
            hashes = hashing.result()
        grid = to_grid(square, sampled.views, plan)
        paths = {name: each.path for name, each in self.weights.items()} | dict(self.cascade)
        report = generation_report(square, settings, plan, paths, hashes, sampled.seconds)
        with output_folder(folder, overwrite=True) as partial:  # replaces the unfinished state
            write_posed_images(grid, partial)
            write_previews(grid, partial)
            (partial / "input").mkdir()
            write_clip(square, partial / "input")
            write_json(partial / "generate.json", report)
        return Generated(grid, report)

    def sample(
        self,
        clip: SquareClip,
        plan: Plan,
        checkpoint: Checkpoint,
        on_step: OnStep = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> SampledGrid:
        """Run the networks: the orbit model, then each stage."""
        frames = torch.from_numpy(composite(clip.images)).permute(0, 3, 1, 2)
        _ = self._cascade  # raises before the first step if it was trained on another base
        job = Job(plan, frames.float() / 127.5 - 1, checkpoint, on_step, should_stop)
        size, references = job.video.shape[-1], None
        if plan.orbit_model is not None:
            references = sample_reference_views(job, lambda: self._networks("orbit", job).networks)
        if plan.coarse_size is None:
            views = self._sample_stage(job, Stage("grid", size), references)
        else:
            coarse_stage = Stage("coarse", plan.coarse_size, first_run=COARSE_RUNS)
            coarse = self._sample_stage(job, coarse_stage, references)
            if plan.fine:
                fine_stage = Stage("fine", size, stages_before=1)
                views = self._sample_stage(job, fine_stage, references, coarse)
            else:
                views = enlarged(coarse, size)
        return SampledGrid(views[:, plan.preset.denoises_input_view :], job.seconds)

    def _sample_stage(
        self, job: Job, stage: Stage, references: Tensor | None, coarse: Tensor | None = None
    ) -> Tensor:
        """Sample one grid; a coarse one conditions the structure branch."""
        with job.timed(stage.title("load")):
            loaded = self._networks(stage.name, job)
        return GridSampler(job, stage, loaded.networks, references, loaded.branch, coarse).sample()

    def estimate(self, clip: Clip | SquareClip) -> Estimate:
        """Estimate memory, disk and time of the grid of a clip, in a second and without weights."""
        square, plan = prepare(clip, self.settings)
        architectures = {name: each.architecture for name, each in self.weights.items()}
        size, frames = square.images.shape[1], len(square.images)
        rate = measured_rate(self.settings.device)
        return estimate(plan, self.settings, size, frames, rate, architectures)

    # -- networks

    def _networks(self, role: str, job: Job) -> StageNetworks:
        """Load the networks of a role ("orbit", "grid", "coarse", "fine"), or reuse loaded ones.

        Networks of other roles are moved to the CPU, or deleted if `keep_networks` is False.
        """
        for other in self._loaded.keys() - {role}:
            if self.keep_networks:
                self._loaded[other].move_to(torch.device("cpu"))
            else:
                del self._loaded[other]
        if role not in self._loaded:
            self._loaded[role] = self._load(role, job.plan)
        loaded = self._loaded[role]
        loaded.move_to(torch.device(self.settings.device))
        return loaded

    def _load(self, role: str, plan: Plan) -> StageNetworks:
        name = plan.preset.model if role != "orbit" else plan.orbit_model
        assert name is not None
        device, dtype = torch.device(self.settings.device), working_dtype(self.settings)
        networks = self.weights[name].load(device, dtype, self.settings.low_memory)
        unet, branch = networks.unet, None
        if role == "coarse":
            assert isinstance(unet, SV4DUNet)
            load_lora(self.cascade[LORA_FILE], unet, self.weights[name].sha256)
            merge_lora(unet)
        elif role == "fine":
            assert isinstance(unet, SV4DUNet)
            base_sha256 = self.weights[name].sha256
            branch = load_branch(
                self.cascade[BRANCH_FILE], unet.config, base_sha256, unet.dtype, device
            )
        return StageNetworks(networks, branch)

    # -- weights

    @cached_property
    def _cascade(self) -> dict[str, WeightsFile]:
        """LoRA and branch; opening them checks the sha256 of the base they were trained on."""
        if not self.cascade:
            return {}
        base = self.weights[presets[self.settings.model].model]
        return open_cascade_files(self.cascade, base.sha256)

    def _hashes(self) -> dict[str, str]:
        """Return the sha256 of all weights files; published ones take as long as reading them."""
        return {name: each.sha256 for name, each in (*self.weights.items(), *self._cascade.items())}

    def _identity(self, clip: SquareClip, settings: GenerateSettings) -> dict[str, Any]:
        """Return the values that the checkpoints of an unfinished generation must match."""
        values = asdict(settings)
        return {
            "settings": {name: values[name] for name in FINGERPRINT_FIELDS},
            "clip": fingerprint(clip.images),
            "weights": {name: each.identity for name, each in self.weights.items()},
            "cascade": {name: each.sha256 for name, each in self._cascade.items()},
        }


class StageNetworks(NamedTuple):
    """Networks of the orbit model or of one stage."""

    networks: Networks
    branch: StructureBranch | None

    def move_to(self, device: torch.device) -> None:
        """Move them to a device; in low-memory mode only the branch, as the others move later."""
        if not self.networks.low_memory:
            self.networks.move_to(device)
        if self.branch is not None:  # every step uses it
            self.branch.to(device)


def prepare(clip: Clip | SquareClip, settings: GenerateSettings) -> tuple[SquareClip, Plan]:
    """Cut a clip to the size of the grid, and resolve the options for it.

    Raises:
        InputError: a number is out of range, or a `SquareClip` has another size.
    """
    preset = presets[settings.model]
    square = clip.square(settings.size or preset.size, preset.ratio)
    return square, make_plan(settings, len(square.images))


def to_grid(clip: SquareClip, views: Tensor, plan: Plan) -> Grid:
    """Join the input and the generated views with their cameras; alpha is estimated.

    Args:
        clip: the input.
        views: generated views in [−1, 1], [n, V, 3, H, W].
        plan: the plan that they were sampled with.
    """
    pixels = ((views + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    generated = pixels.permute(1, 0, 3, 4, 2).numpy()  # [V, n, H, W, 3]
    cut = cut_soft_silhouette if plan.preset.soft_silhouettes else _plain_matte(generated)
    images = np.concatenate(
        [clip.images[None], [[cut(each) for each in view] for view in generated]]
    )
    cameras = plan.cameras(views.shape[-1])
    return grid_from_views(cameras, images, clip.fps, alpha_known=False, input_view=0)


def _plain_matte(generated: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Make the function that mattes an image by the common background of all [V, n, H, W, 3]."""
    background = border_color(generated.reshape(-1, *generated.shape[-3:]))
    return partial(matte, background=WHITE if background is None else background)


@contextmanager
def _memory_errors(low_memory: bool, saved: bool) -> Iterator[None]:
    """Translate torch's out-of-memory error to OutOfMemoryError, with a hint."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = "a smaller size" if low_memory else "low memory (--low-memory) or a smaller size"
        resumed = "; a run with low memory resumes after the saved windows" if saved else ""
        raise OutOfMemoryError(
            "the device has too little memory" + (", finished windows are saved" if saved else ""),
            hint=f"try {smaller}{resumed}",
        ) from error
