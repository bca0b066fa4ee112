"""Fits canonical Gaussians and their motion to a grid.

    visual hull ─▶ one frame, no motion ─▶ motion, frame by frame outwards ─▶ all frames, full size

Each step draws some views of one time, so that the deformation is evaluated once. Letters: N
Gaussians, V views in a step, T times. Frame: world. Files are handled by
`recon.fitting.checkpoint` and `recon.fitting.reconstruction`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recon.deformation import Deformation
from recon.deformation.interface import deformation_class
from recon.errors import DivergedError, InputError
from recon.fitting.config import FitConfig
from recon.fitting.densification import (
    GrowAndPrune,
    Relocation,
    density_plan,
    reindex,
    relocation_plan,
    share_opacity,
    split,
)
from recon.fitting.image_pyramid import ImageLevel, ImagePyramid
from recon.fitting.image_weights import ImageTrust
from recon.fitting.schedule import Schedule
from recon.fitting.visual_hull import Hull, visual_hull
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid.grid import Grid
from recon.losses import image_loss
from recon.rasterizers import rasterize
from recon.rendering import camera_tensors, view_colors


class Step(NamedTuple):
    """What one iteration did: its number, the mean PSNR of its images in dB, and N."""

    iteration: int
    psnr: float
    gaussians: int


class Fit:
    """A fit in progress; `recon.fitting.checkpoint` saves and restores all of its state.

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
        images = np.bincount(grid.frame, minlength=grid.T)
        self.schedule = Schedule(config, images, max(grid.height, grid.width))
        self.iteration = 0
        self.joined = 1  # frames that have a motion
        self.frame_errors = torch.where(torch.from_numpy(images) > 0, 1e-2, 0.0)
        self.trust = ImageTrust(grid.frame, grid.is_input)
        self.gradient_sum = torch.zeros(0)
        hull = visual_hull(grid, self.schedule.first)
        self.radius = float(np.linalg.norm(hull.points - hull.points.mean(0), axis=1).max())
        self.parameters = _parameters(_gaussians_in(hull, config, self.generator), config.device)
        self.deformation: Deformation = deformation_class("static").for_fit(
            self.gaussians, self.times
        )
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
        self._follow_schedule()
        frame = self._draw_frame()
        images = self._draw_views(frame)
        psnr = self._optimise(frame, images)
        self._densify()
        self.iteration += 1
        return Step(self.iteration, psnr, len(self.parameters["means"]))

    @property
    def stage(self) -> str:
        """What is going on: "static", "motion" or "refinement"."""
        return self.schedule.stage(self.iteration)

    def _follow_schedule(self) -> None:
        """Lets frames join, with a motion model as soon as there is motion; sets learning rates."""
        frames = self.schedule.frames(self.iteration)
        if len(frames) > 1 and self.deformation.name != self.config.motion:
            model = deformation_class(self.config.motion)
            with torch.random.fork_rng():  # networks are initialised from the global generator
                torch.manual_seed(self.config.seed)
                self.deformation = model.for_fit(self.gaussians, self.times)
            self.optimizer = self.new_optimizer()
        known = frames[: self.joined]
        for frame in frames[self.joined :]:
            inward = -1 if frame > self.schedule.first else 1
            before = frame + 2 * inward
            self.deformation.begin_time(frame, frame + inward, before if before in known else None)
        self.joined = len(frames)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.iteration, group)

    # -- drawing

    def _draw_frame(self) -> int:
        """One of the newest frames, or any with a probability proportional to its error.

        A frame without images has no error.
        """
        frames, newest = self.schedule.frames(self.iteration), self.schedule.newest(self.iteration)
        newest = [frame for frame in newest if self.frame_errors[frame] > 0]
        if newest and torch.rand((), generator=self.generator) < self.config.newest:
            return newest[int(torch.randint(len(newest), (), generator=self.generator))]
        errors = self.frame_errors[frames]
        return frames[int(torch.multinomial(errors, 1, generator=self.generator))]

    def _draw_views(self, frame: int) -> np.ndarray:
        images = self.grid.at_frame(frame)
        order = torch.randperm(len(images), generator=self.generator)
        return images[order[: self.config.views].numpy()]

    # -- optimising

    def _optimise(self, frame: int, images: np.ndarray) -> float:
        """One step of Adam on some images of one frame; returns their mean PSNR in dB."""
        level = self.pyramid.level(self.schedule.image_size(self.iteration))
        time, device = self.times[frame], self.config.device
        backgrounds = self._backgrounds(len(images)).to(device)
        moved = self.deformation(self.gaussians, time)
        viewmats, Ks = camera_tensors([level.cameras[i] for i in images], moved.means)
        probe = None
        if isinstance(self.config.densification, GrowAndPrune):
            probe = torch.zeros(len(images), len(moved.means), 2, device=device, requires_grad=True)
        rendering = rasterize(
            moved.means, moved.quats, moved.scales.exp(), moved.opacities.sigmoid(),
            view_colors(moved, viewmats), viewmats, Ks, level.height, level.width, backgrounds,
            probe,
        )  # fmt: skip
        loss = image_loss(
            rendering.rgb, rendering.alpha, [level.images[i] for i in images], backgrounds,
            level.boxes[images], self._weights(images).to(device), self.config.weights,
        )  # fmt: skip
        stiffness = self.schedule.stiffness(self.iteration, frame)
        total = loss.total + stiffness * self.deformation.regularisation(self.gaussians, time)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        if probe is not None:
            self._note_gradients(probe, level)
        psnr = self._note_error(frame, float(loss.squared_error.mean()))
        self.trust.note(images, loss.squared_error)
        return psnr

    def _weights(self, images: np.ndarray) -> Tensor:
        """Of images in the loss, see `image_trust`."""
        if self.config.robust:
            return self.trust.weights(images)
        return torch.ones(len(images))

    def _backgrounds(self, count: int) -> Tensor:
        if self.config.random_background:
            return torch.rand(count, 3, generator=self.generator)
        return torch.ones(count, 3)

    def _note_error(self, frame: int, squared_error: float) -> float:
        if not math.isfinite(squared_error):
            raise DivergedError(
                f"the fit diverged at iteration {self.iteration}: the images are not finite numbers"
            )
        self.frame_errors[frame] = 0.8 * self.frame_errors[frame] + 0.2 * squared_error**0.5
        return -10 * math.log10(max(squared_error, 1e-10))

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
        due = (self.iteration + 1) % policy.every == 0
        if not due or self.schedule.progress(self.iteration) >= policy.stop_after:
            return
        if isinstance(policy, Relocation):
            self._relocate(policy)
        else:
            self._grow_and_prune(policy)
        self.deformation.refresh(self.gaussians)

    def _relocate(self, policy: Relocation) -> None:
        before = self.gaussians
        cap = self.schedule.gaussians(self.iteration)
        rows = relocation_plan(before.opacities, policy, cap, self.generator)
        opacities, scales = share_opacity(before, rows)
        copied = torch.bincount(rows, minlength=len(before.means))[rows] > 1
        self._reindex(rows, fresh=copied)
        with torch.no_grad():
            self.parameters["opacities"].copy_(opacities)
            self.parameters["scales"].copy_(scales)

    def _grow_and_prune(self, policy: GrowAndPrune) -> None:
        mean = self.gradient_sum[:, 0] / self.gradient_sum[:, 1].clamp_min(1)
        mean = mean.to(self.config.device)
        cap = self.schedule.gaussians(self.iteration)
        rows, halves = density_plan(self.gaussians, mean, policy, self.radius, cap)
        self._reindex(rows, fresh=halves)
        means, scales = split(self.gaussians, halves, self.generator)
        with torch.no_grad():
            self.parameters["means"].copy_(means)
            self.parameters["scales"].copy_(scales)
        self.gradient_sum = torch.zeros(0)

    def _reindex(self, rows: Tensor, fresh: Tensor) -> None:
        owned = [*self.parameters.values(), *self.deformation.gaussian_parameters()]
        reindex(owned, self.optimizer, rows, fresh)

    def _note_gradients(self, probe: Tensor, level: ImageLevel) -> None:
        if len(self.gradient_sum) != probe.shape[1]:
            self.gradient_sum = torch.zeros(probe.shape[1], 2)
        half = probe.new_tensor([level.width, level.height]) / 2 * len(probe)
        assert probe.grad is not None
        norm = (probe.grad * half).norm(dim=-1).cpu()
        self.gradient_sum[:, 0] += norm.sum(0)
        self.gradient_sum[:, 1] += (norm > 0).sum(0)


def _parameters(gaussians: Gaussians, device: str) -> dict[str, nn.Parameter]:
    return {
        name: nn.Parameter(value.float().to(device).contiguous())
        for name, value in gaussians._asdict().items()
    }


def _gaussians_in(hull: Hull, config: FitConfig, generator: torch.Generator) -> Gaussians:
    """Points of the hull, those on its surface preferred, jittered inside their voxels."""
    count = config.initial_gaussians
    weights = torch.from_numpy(np.where(hull.on_surface, 1.0, 0.2))
    chosen = torch.multinomial(
        weights, count, replacement=count > len(weights), generator=generator
    )
    jitter = (torch.rand(count, 3, generator=generator) - 0.5) * hull.voxel_size
    points = torch.from_numpy(hull.points[chosen]).float() + jitter
    volume = len(hull.points) * hull.voxel_size**3
    sigma = 0.6 * (volume / count) ** (1 / 3)
    rgb = torch.from_numpy(hull.rgb[chosen]).float()
    return gaussians_from_points(points, rgb, sigma, opacity=0.5, sh_degree=config.sh_degree)
