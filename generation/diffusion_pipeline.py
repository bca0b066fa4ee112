"""The pipeline of diffusion models, from a clip to a grid of views × frames.

    clip ──square──▶ video ──orbit model──▶ reference views (SV4D and the cascades)
    video, reference views ──base network──▶ grid                              (published models)
    video, reference views ──base + LoRA──▶ coarse grid
                           ──base + structure branch on it──▶ grid             (cascades)

Letters: n frames of the clip, V generated views. View 0 of the grid is the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from generation.checkpoint import Checkpoint
from generation.clip.matting import cut_soft_silhouette
from generation.clip.preparing import Clip, SquareClip
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
from generation.models.vae import to_uint8
from generation.networks import Networks, working_dtype
from generation.pipeline import MadeGrid, Pipeline, UsedFile
from generation.presets import SamplingPlan, make_plan, presets
from generation.settings import GenerateSettings
from generation.weights.catalogue import BRANCH_FILE, CASCADE_KINDS, LORA_FILE
from generation.weights.files import WeightsFile, describe, load_branch, load_lora
from generation.weights.model_weights import (
    ModelWeights,
    find_architecture,
    open_models,
)
from generation.weights.store import find_cascade_file, find_model
from recon.errors import WeightsError
from recon.grid import Grid, grid_from_views
from recon.grid.grid import composite
from recon.grid.matte import border_color, matte
from recon.progress import OnStep, ShouldStop, ignore_progress, never_stop

WHITE = np.ones(3)


class SampledGrid(NamedTuple):
    """Sampled and decoded images of a grid.

    Attributes:
        views: images of the generated views in [−1, 1], [n, V, 3, H, W].
        seconds: time spent on each phase, by name.
    """

    views: Tensor
    seconds: dict[str, float]


@dataclass
class DiffusionPipeline(Pipeline[SamplingPlan]):
    """A diffusion model or a cascade with its weights.

    Attributes:
        weights: opened weights by model name.
        cascade: paths of the cascade's LoRA and structure branch, by file name.
        keep_networks: whether networks stay in memory for the next grid.
    """

    weights: Mapping[str, ModelWeights]
    cascade: Mapping[str, Path]
    keep_networks: bool = True
    _loaded: dict[str, StageNetworks] = field(default_factory=dict, init=False)

    @classmethod
    def open(
        cls,
        settings: GenerateSettings,
        weights_folder: Path | None = None,
        keep_networks: bool = True,
    ) -> DiffusionPipeline:
        """See `Pipeline.open`."""
        plan = make_plan(settings, presets[settings.model].window_frames)
        cascade = {  # searched first: if missing, they take days to train, the others a download
            name: find_cascade_file(name, plan.preset.model, weights_folder)
            for name in plan.cascade_files
        }
        return cls(settings, open_models(plan.models, weights_folder), cascade, keep_networks)

    @staticmethod
    def prepare(
        clip: Clip | SquareClip, settings: GenerateSettings
    ) -> tuple[SquareClip, SamplingPlan]:
        """See `Pipeline.prepare`."""
        preset = presets[settings.model]
        square = clip.square(settings.size or preset.size, preset.ratio)
        return square, make_plan(settings, len(square.images))

    @staticmethod
    def find_files(
        plan: SamplingPlan, weights_folder: Path | None = None
    ) -> dict[str, Path | None]:
        """See `Pipeline.find_files`."""

        def found(find: Callable[[], Path]) -> Path | None:
            try:
                return find()
            except WeightsError:
                return None

        models = {
            name.replace("_8views", "-8views"): found(partial(find_model, name, weights_folder))
            for name in plan.models
        }
        return models | {
            name: found(partial(find_cascade_file, name, plan.preset.model, weights_folder))
            for name in plan.cascade_files
        }

    @staticmethod
    def estimate_cost(
        plan: SamplingPlan,
        settings: GenerateSettings,
        size: int,
        frames: int,
        rate_flops: float,
        weights_folder: Path | None = None,
    ) -> Estimate:
        """See `Pipeline.estimate_cost`."""
        architectures = {name: find_architecture(name, weights_folder) for name in plan.models}
        return estimate(plan, settings, size, frames, rate_flops, architectures)

    @staticmethod
    def facts(plan: SamplingPlan, settings: GenerateSettings) -> dict[str, Any]:
        """See `Pipeline.facts`."""
        return {
            "steps": plan.steps,
            "dtype": str(working_dtype(settings)).removeprefix("torch."),
            "passes": [asdict(each) for each in plan.windows],
        }

    @staticmethod
    def work(plan: SamplingPlan, size: int) -> dict[str, Any]:
        """See `Pipeline.work`."""
        return {
            "grids": plan.stage_sizes(size),
            "passes": [window.name for window in plan.windows],
            "steps": plan.total_steps,
        }

    def estimate(self, clip: Clip | SquareClip) -> Estimate:
        """See `Pipeline.estimate`."""
        square, plan = self.prepare(clip, self.settings)
        architectures = {name: each.architecture for name, each in self.weights.items()}
        size, frames = square.images.shape[1], len(square.images)
        rate = measured_rate(self.settings.device)
        return estimate(plan, self.settings, size, frames, rate, architectures)

    def make_grid(
        self,
        clip: SquareClip,
        plan: SamplingPlan,
        checkpoint: Checkpoint,
        on_step: OnStep = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> MadeGrid:
        """See `Pipeline.make_grid`."""
        sampled = self.sample(clip, plan, checkpoint, on_step, should_stop)
        return MadeGrid(to_grid(clip, sampled.views, plan), sampled.seconds, {})

    def sample(
        self,
        clip: SquareClip,
        plan: SamplingPlan,
        checkpoint: Checkpoint,
        on_step: OnStep = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> SampledGrid:
        """Run the networks: the orbit model, then each stage."""
        frames = torch.from_numpy(composite(clip.images)).permute(0, 3, 1, 2)
        self._check_base()  # before the first step
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

    def _load(self, role: str, plan: SamplingPlan) -> StageNetworks:
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
        """LoRA and branch, of which only the headers are read."""
        return {name: describe(path, CASCADE_KINDS[name]) for name, path in self.cascade.items()}

    def _check_base(self) -> None:
        """Check that LoRA and branch were trained on the base; takes as long as reading it.

        Raises:
            WeightsError: they were trained on another one.
        """
        for file in self._cascade.values():
            file.check_requires(base=self.weights[presets[self.settings.model].model].sha256)

    def used_files(self) -> list[tuple[str, UsedFile]]:
        """See `Pipeline.used_files`."""
        opened = (*self.weights.items(), *self._cascade.items())
        return [(name, UsedFile(each.path, each.sha256)) for name, each in opened]

    def weights_identity(self) -> dict[str, dict[str, int | str]]:
        """See `Pipeline.weights_identity`."""
        return {
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


def to_grid(clip: SquareClip, views: Tensor, plan: SamplingPlan) -> Grid:
    """Join the input and the generated views with their cameras; alpha is estimated.

    Args:
        clip: the input.
        views: generated views in [−1, 1], [n, V, 3, H, W].
        plan: the plan that they were sampled with.
    """
    generated = to_uint8(views).permute(1, 0, 3, 4, 2).numpy()  # [V, n, H, W, 3]
    cut = cut_soft_silhouette if plan.preset.soft_silhouettes else _plain_matte(generated)
    images = np.concatenate(
        [clip.images[None], [[cut(each) for each in view] for view in generated]]
    )
    cameras = plan.cameras(views.shape[-1])
    return grid_from_views(
        cameras, images, clip.fps, alpha_known=False, input_view=0, times=clip.frame_times
    )


def _plain_matte(generated: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Make the function that mattes an image by the common background of all [V, n, H, W, 3]."""
    background = border_color(generated.reshape(-1, *generated.shape[-3:]))
    return partial(matte, background=WHITE if background is None else background)
