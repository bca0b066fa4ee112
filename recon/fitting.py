"""Fits canonical Gaussians and their motion to a grid.

    visual hull ─▶ one frame, no motion ─▶ motion, frame by frame outwards ─▶ all frames, full size

Each step draws some views of one time, so that the deformation is evaluated once. Letters: N
Gaussians, V views in a step, T times. Frame: world. It knows no files: `recon.checkpoint` and
`recon.reconstruction` do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recon.deformation import Deformation
from recon.deformation.interface import deformation_class
from recon.densification import (
    GrowAndPrune,
    Relocation,
    density_plan,
    reindex,
    relocation_plan,
    share_opacity,
    split,
)
from recon.errors import InputError
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid.grid import Grid
from recon.image_pyramid import ImagePyramid
from recon.losses import LossWeights, image_loss
from recon.rasterizers import rasterize
from recon.rendering import camera_tensors, view_colors
from recon.visual_hull import visual_hull


@dataclass(frozen=True)
class LearningRates:
    """Adam's, for an object of radius about 1; those of the means fall to `means_end`."""

    means: float = 1e-3
    means_end: float = 3e-5
    scales: float = 6e-3
    quats: float = 4e-3
    opacities: float = 4e-2
    sh0: float = 4e-3
    shN: float = 2e-4
    end: float = 0.3  # factor of all others at the end of the fit
    motion_start: float = 4.0
    motion_end: float = 0.1  # factor of the motion's own rates at the end


@dataclass(frozen=True)
class FitConfig:
    """All that decides what a fit does; `preset` makes the usual ones.

    Attributes:
        motion: key of `recon.deformation.motion_models`.
        iterations: in all.
        initial_gaussians: drawn from the visual hull.
        gaussians: cap on N.
        views: in one step.
        sh_degree: of the spherical harmonics, 0 to 3.
        static: fraction of the iterations on one frame.
        growth: fraction of the iterations in which the other frames join one by one.
        newest: fraction of the growth's steps that draw the frames that joined last.
        growth_size: longer edge of the images in pixels until the growth is over.
        middle_size: likewise in the first half of the rest; the last part has the full size.
        middle: fraction of the iterations at `middle_size`.
        weights: of the loss.
        rates: of the optimiser.
        densification: policy.
        random_background: whether images are compared over random colours (else over white).
        threads: of the CPU kernels; 0 means all processors.
        device: of the tensors.
        seed: of everything random.
        checkpoint_every: iterations between two checkpoints.
    """

    motion: str = "bones"
    iterations: int = 5000
    initial_gaussians: int = 5000
    gaussians: int = 10000
    views: int = 4
    sh_degree: int = 0
    static: float = 0.1
    growth: float = 0.5
    newest: float = 0.6
    growth_size: int = 128
    middle_size: int = 256
    middle: float = 0.1
    weights: LossWeights = field(default_factory=LossWeights)
    rates: LearningRates = field(default_factory=LearningRates)
    densification: Relocation | GrowAndPrune = field(default_factory=Relocation)
    random_background: bool = True
    threads: int = 0
    device: str = "cpu"
    seed: int = 0
    checkpoint_every: int = 250


QUALITIES: dict[str, dict[str, Any]] = {
    "draft": {"iterations": 1500, "gaussians": 6000},
    "standard": {"iterations": 5000, "gaussians": 10000},
    "high": {"iterations": 14000, "gaussians": 20000},
}


def preset(
    quality: str = "standard", motion: str | None = None, device: str = "cpu", seed: int = 0
) -> FitConfig:
    """The usual settings.

    Args:
        quality: "draft", "standard" or "high": about 1, 5 or 15 minutes on two CPU cores at 256².
        motion: key of `recon.deformation.motion_models`; the device's default if None.
        device: "cpu" or "cuda".
        seed: of everything random.

    Raises:
        InputError: there is no such quality.
    """
    if quality not in QUALITIES:
        raise InputError(f"unknown quality {quality!r}; expected one of {sorted(QUALITIES)}")
    return FitConfig(motion=motion or "bones", device=device, seed=seed, **QUALITIES[quality])


class Step(NamedTuple):
    """What one iteration did: its number, the mean PSNR of its images in dB, and N."""

    iteration: int
    psnr: float
    gaussians: int


class Fit:
    """A fit in progress. All that changes is in attributes that `recon.checkpoint` can save.

    Args:
        grid: images and cameras.
        config: what to do.

    Raises:
        GridError: the silhouettes contradict each other.
        InputError: the grid has no images.
    """

    def __init__(self, grid: Grid, config: FitConfig):
        if len(grid) == 0:
            raise InputError("the grid holds no images")
        self.grid, self.config = grid, config
        self.times = [float(time) for time in grid.times]
        self.generator = torch.Generator().manual_seed(config.seed)
        self.pyramid = ImagePyramid(grid, config.device)
        self.middle_frame = _middle_frame(grid)
        self.iteration = 0
        self.joined = 1  # frames that have a motion
        self.frame_errors = torch.full((grid.T,), 1e-2)
        self.gradient_sum = torch.zeros(0)
        hull = visual_hull(grid, self.middle_frame)
        self.radius = float(np.linalg.norm(hull.points - hull.points.mean(0), axis=1).max())
        self.parameters = _parameters(_gaussians_in(hull, config, self.generator), config.device)
        self.deformation: Deformation = deformation_class("static").for_fit(
            self.gaussians, grid.times
        )
        self.order = _growth_order(grid.T, self.middle_frame)
        self.optimizer = self.new_optimizer()

    @property
    def gaussians(self) -> Gaussians:
        """The canonical ones, as parameters."""
        return Gaussians(**self.parameters)

    @property
    def done(self) -> bool:
        """Whether all iterations are made."""
        return self.iteration >= self.config.iterations

    def step(self) -> Step:
        """One iteration."""
        self._enter_stage()
        frame = self._draw_frame()
        images = self._draw_views(frame)
        psnr = self._optimise(frame, images)
        self._densify()
        self.iteration += 1
        return Step(self.iteration, psnr, len(self.parameters["means"]))

    # -- the schedule: everything follows from the iteration

    @property
    def progress(self) -> float:
        """Fraction of the iterations that are made."""
        return self.iteration / self.config.iterations

    @property
    def active_frames(self) -> list[int]:
        """Frames that have joined so far, in the order in which they did."""
        c = self.config
        if c.motion == "static" or self.progress < c.static:
            return self.order[:1]
        return self.order[: 3 + 2 * int(self._round)]

    @property
    def stage(self) -> str:
        """What is going on: "static", "motion" or "refinement"."""
        c = self.config
        if len(self.active_frames) == 1 and self.grid.T > 1 and self.progress < c.static:
            return "static"
        return "motion" if self.progress < c.static + c.growth else "refinement"

    def image_size(self) -> int:
        """Longer edge in pixels of the images of this iteration."""
        c = self.config
        full = max(self.grid.height, self.grid.width)
        if self.progress < c.static + c.growth:
            return min(c.growth_size, full)
        if self.progress < c.static + c.growth + c.middle:
            return min(c.middle_size, full)
        return full

    def _enter_stage(self) -> None:
        frames = self.active_frames
        if len(frames) > 1 and self.deformation.name != self.config.motion:
            model = deformation_class(self.config.motion)
            self.deformation = model.for_fit(self.gaussians, self.times).to(self.config.device)
            self.optimizer = self.new_optimizer()
        for frame in frames[self.joined :]:
            inward = -1 if frame > self.middle_frame else 1
            before = frame + 2 * inward
            known = frames.index(before) < self.joined if before in frames else False
            self.deformation.begin_time(frame, frame + inward, before if known else None)
        self.joined = len(frames)
        self._set_rates()

    def _set_rates(self) -> None:
        c, rates, progress = self.config, self.config.rates, self.progress
        settled = max(0.0, progress - c.static - c.growth) / max(1e-9, 1 - c.static - c.growth)
        for group in self.optimizer.param_groups:
            if group["name"] == "means":
                factor = (rates.means_end / rates.means) ** progress
            elif not group["motion"]:
                factor = rates.end**settled
            else:
                factor = rates.motion_end**settled
                if "time" in group:
                    factor *= 1 + rates.motion_start * 0.1 ** self._age(group["time"])
            group["lr"] = group["initial_lr"] * factor

    @property
    def _round(self) -> float:
        """Number of rounds in which frames joined so far; its fraction is of the present one."""
        c = self.config
        return max(0.0, self.progress - c.static) / max(c.growth, 1e-9) * self._rounds

    @property
    def _rounds(self) -> int:
        return max(1, len(self.order) // 2)

    def _age(self, frame: int) -> float:
        """Rounds since a frame joined."""
        return max(0.0, self._round - (self.order.index(frame) - 1) // 2)

    # -- drawing

    def _draw_frame(self) -> int:
        frames = self.active_frames
        newest = frames[-2:]
        growing = len(frames) > 2 and self.progress < self.config.static + self.config.growth
        if growing and torch.rand((), generator=self.generator) < self.config.newest:
            return newest[int(torch.randint(len(newest), (), generator=self.generator))]
        errors = self.frame_errors[frames]
        return frames[int(torch.multinomial(errors, 1, generator=self.generator))]

    def _draw_views(self, frame: int) -> np.ndarray:
        images = self.grid.at_frame(frame)
        order = torch.randperm(len(images), generator=self.generator)
        return images[order[: self.config.views].numpy()]

    # -- optimising

    def _optimise(self, frame: int, images: np.ndarray) -> float:
        level = self.pyramid.level(self.image_size())
        backgrounds = torch.ones(len(images), 3)
        if self.config.random_background:
            backgrounds = torch.rand(len(images), 3, generator=self.generator)
        backgrounds = backgrounds.to(self.config.device)
        time = self.times[frame]
        moved = self.deformation(self.gaussians, time)
        viewmats, Ks = camera_tensors([level.cameras[i] for i in images], moved.means)
        probe = None
        if isinstance(self.config.densification, GrowAndPrune):
            probe = torch.zeros(len(images), len(moved.means), 2, requires_grad=True)
        rendering = rasterize(
            moved.means, moved.quats, moved.scales.exp(), moved.opacities.sigmoid(),
            view_colors(moved, viewmats), viewmats, Ks, level.height, level.width, backgrounds,
            probe,
        )  # fmt: skip
        loss = image_loss(
            rendering.rgb, rendering.alpha, [level.images[i] for i in images], backgrounds,
            level.boxes[images], torch.ones(len(images)), self.config.weights,
        )  # fmt: skip
        total = loss.total + self.deformation.regularisation(self.gaussians, time)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        if probe is not None:
            self._note_gradients(probe, level)
        error = float(loss.squared_error.mean())
        self.frame_errors[frame] = 0.8 * self.frame_errors[frame] + 0.2 * error**0.5
        return -10 * np.log10(max(error, 1e-10))

    def new_optimizer(self) -> torch.optim.Optimizer:
        """Adam on all parameters; what the present one knows of the Gaussians is kept."""
        rates = self.config.rates
        groups = [
            {"params": [value], "lr": getattr(rates, name), "name": name, "motion": False}
            for name, value in self.parameters.items()
        ]
        groups += [group | {"motion": True} for group in self.deformation.parameter_groups()]
        for group in groups:
            group["initial_lr"] = group["lr"]
        old = getattr(self, "optimizer", None)
        optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)
        if old is not None:
            for parameter in self.parameters.values():
                if parameter in old.state:
                    optimizer.state[parameter] = old.state[parameter]
        return optimizer

    # -- densification

    def _densify(self) -> None:
        policy = self.config.densification
        if (self.iteration + 1) % policy.every or self.progress >= policy.stop_after:
            return
        if isinstance(policy, Relocation):
            self._relocate(policy)
        else:
            self._grow_and_prune(policy)
        self.deformation.refresh(self.gaussians)

    def _relocate(self, policy: Relocation) -> None:
        before = self.gaussians
        rows = relocation_plan(before.opacities, policy, self.config.gaussians, self.generator)
        opacities, scales = share_opacity(before, rows)
        copied = torch.bincount(rows, minlength=len(before.means))[rows] > 1
        self._reindex(rows, fresh=copied)
        with torch.no_grad():
            self.parameters["opacities"].copy_(opacities)
            self.parameters["scales"].copy_(scales)

    def _grow_and_prune(self, policy: GrowAndPrune) -> None:
        mean = self.gradient_sum[:, 0] / self.gradient_sum[:, 1].clamp_min(1)
        rows, halves = density_plan(
            self.gaussians, mean, policy, self.radius, self.config.gaussians
        )
        self._reindex(rows, fresh=halves)
        means, scales = split(self.gaussians, halves, self.generator)
        with torch.no_grad():
            self.parameters["means"].copy_(means)
            self.parameters["scales"].copy_(scales)
        self.gradient_sum = torch.zeros(0)

    def _reindex(self, rows: Tensor, fresh: Tensor) -> None:
        owned = [*self.parameters.values(), *self.deformation.gaussian_parameters()]
        reindex(owned, self.optimizer, rows, fresh)

    def _note_gradients(self, probe: Tensor, level) -> None:
        if len(self.gradient_sum) != probe.shape[1]:
            self.gradient_sum = torch.zeros(probe.shape[1], 2)
        half = torch.tensor([level.width, level.height]) / 2 * len(probe)
        assert probe.grad is not None
        norm = (probe.grad * half).norm(dim=-1)
        self.gradient_sum[:, 0] += norm.sum(0)
        self.gradient_sum[:, 1] += (norm > 0).sum(0)


def _middle_frame(grid: Grid) -> int:
    return grid.T // 2


def _growth_order(count: int, middle: int) -> list[int]:
    """Frames outwards from the middle, forwards and backwards in turn."""
    return sorted(range(count), key=lambda frame: (abs(frame - middle), frame < middle))


def _parameters(gaussians: Gaussians, device: str) -> dict[str, nn.Parameter]:
    return {
        name: nn.Parameter(value.float().to(device).contiguous())
        for name, value in gaussians._asdict().items()
    }


def _gaussians_in(hull, config: FitConfig, generator: torch.Generator) -> Gaussians:
    """Points of the hull, those on its surface preferred, jittered inside their voxels."""
    count = config.initial_gaussians
    weights = torch.from_numpy(np.where(hull.on_surface, 1.0, 0.2))
    chosen = torch.multinomial(
        weights, count, replacement=count > len(weights), generator=generator
    )
    jitter = (torch.rand(count, 3, generator=generator) - 0.5) * hull.voxel
    points = torch.from_numpy(hull.points[chosen]).float() + jitter
    volume = len(hull.points) * hull.voxel**3
    sigma = 0.6 * (volume / count) ** (1 / 3)
    rgb = torch.from_numpy(hull.rgb[chosen]).float()
    return gaussians_from_points(points, rgb, sigma, opacity=0.5, sh_degree=config.sh_degree)
