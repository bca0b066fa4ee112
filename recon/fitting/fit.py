"""Fitting canonical Gaussians and their motion to a grid, one step at a time.

    visual hull ─▶ one frame, no motion ─▶ motion, frame by frame outwards ─▶ all frames, full size

A grid may come with Gaussians of its middle frame, which then replace the visual hull.
Each step samples some views of one frame, so that the deformation is evaluated once.
The world's unit and place do not matter: a fit works in a frame of its own, in which the object of
the first frame has the radius `OBJECT_RADIUS` around the origin; `Fit.result` returns to the world.
Letters: N Gaussians, V views in a step, T times. Frame: normalized.
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
from recon.fitting.densification import GaussianRows, Limits
from recon.fitting.image_pyramid import ImagePyramid
from recon.fitting.image_weights import ImageWeights
from recon.fitting.schedule import Schedule
from recon.fitting.visual_hull import Hull, visual_hull
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid.grid import Grid
from recon.grid.initial_gaussians import InitialGaussians
from recon.losses import image_loss
from recon.rasterizers import rasterize
from recon.rendering import camera_tensors, view_colors
from recon.similarity import normalizing

NEW_ERROR_WEIGHT = 0.2  # weight of a new error in the running error of a frame
INITIAL_ERROR = 1e-2
OBJECT_RADIUS = 0.78  # normalized units; that of the objects for which the settings were tuned
INNER_VOXEL_WEIGHT = 0.2  # probability of an inner voxel of the hull relative to a surface voxel


class Step(NamedTuple):
    """Result of one step.

    Attributes:
        iteration: number of steps done.
        psnr: mean PSNR of the step's images in dB.
        gaussians: number of Gaussians, N.
    """

    iteration: int
    psnr: float
    gaussians: int


class Fit:
    """The state of a fit; `recon.fitting.checkpoint` saves and restores it.

    Args:
        grid: images and cameras.
        config: settings.

    Attributes:
        grid: the same, in the world.
        T_normal_world: from the world to the frame of the fit.
        iteration: number of steps done.
        parameters: the fields of `Gaussians` by name.
        deformation: the motion model; static until a second frame joins.
        joined: number of frames that have joined.
        frame_errors: running root-mean-square error of each frame; 0 for frames without images,
            [T].
        image_weights: robust weights of the images.
        statistics: running statistics of the densification policy.

    Raises:
        GridError: the silhouettes contradict each other.
        InputError: the grid has no images.
    """

    def __init__(self, grid: Grid, config: FitConfig):
        if len(grid) == 0:
            raise InputError("the grid has no images")
        self.grid, self.config = grid, config
        self.times = [float(time) for time in grid.times]
        self.generator = torch.Generator().manual_seed(config.seed)
        images = np.bincount(grid.frame, minlength=grid.T)
        self.schedule = Schedule(config, images, max(grid.height, grid.width))
        self.iteration = 0
        self.joined = 1
        self.frame_errors = torch.where(torch.from_numpy(images) > 0, INITIAL_ERROR, 0.0)
        self.image_weights = ImageWeights(grid.frame, grid.is_input)
        self.statistics: dict[str, Tensor] = {}
        given = grid.initial_gaussians
        if given is not None and given.frame == self.schedule.first:
            self.T_normal_world = normalizing(given.means, OBJECT_RADIUS)
            given = self.T_normal_world.initial_gaussians(given)
            gaussians = _sample_given(given, config, self.generator)
        else:
            hull = visual_hull(grid, self.schedule.first)
            self.T_normal_world = normalizing(hull.points, OBJECT_RADIUS)
            gaussians = _sample_hull(hull.mapped(self.T_normal_world), config, self.generator)
        self.parameters = _parameters(gaussians, config.device)
        self.pyramid = ImagePyramid(self.T_normal_world.grid(grid), config.device)
        self.deformation: Deformation = deformation_class("static").for_fit(
            self.gaussians, self.times
        )
        self.optimizer = self.new_optimizer()

    @property
    def gaussians(self) -> Gaussians:
        """The canonical Gaussians, as parameters."""
        return Gaussians(**self.parameters)

    @property
    def phase(self) -> str:
        """The current phase: "static", "motion" or "refinement"."""
        return self.schedule.phase(self.iteration)

    @property
    def done(self) -> bool:
        """Whether all iterations are done."""
        return self.iteration >= self.config.iterations

    def step(self) -> Step:
        """Run one iteration.

        Raises:
            DivergedError: the rendered images contain NaN or infinities.
        """
        self._follow_schedule()
        frame = self._draw_frame()
        images = self._draw_views(frame)
        psnr = self._optimize(frame, images)
        self._densify()
        self.iteration += 1
        return Step(self.iteration, psnr, len(self.parameters["means"]))

    def result(self) -> tuple[Gaussians, Deformation]:
        """Return detached copies of the Gaussians and the motion model, in the world."""
        T_world_normal = self.T_normal_world.inverse()
        gaussians = self.gaussians.map(lambda tensor: tensor.detach().clone())
        deformation = T_world_normal.deformation(self.deformation).requires_grad_(False)
        return T_world_normal.gaussians(gaussians), deformation

    def new_optimizer(self, old: torch.optim.Optimizer | None = None) -> torch.optim.Optimizer:
        """Make an Adam over all parameters; the Gaussians keep their moments from `old`."""
        rates = self.config.learning_rates
        groups = [
            {"params": [value], "lr": getattr(rates, name), "name": name, "motion": False}
            for name, value in self.parameters.items()
        ]
        groups += [group | {"motion": True} for group in self.deformation.parameter_groups()]
        for group in groups:
            group["initial_lr"] = group["lr"]
        optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)
        if old is not None:
            for parameter in self.parameters.values():
                if parameter in old.state:
                    optimizer.state[parameter] = old.state[parameter]
        return optimizer

    def _follow_schedule(self) -> None:
        """Add the frames that are due, create the motion model, and set the learning rates."""
        frames = self.schedule.frames(self.iteration)
        if len(frames) > 1 and self.deformation.name != self.config.motion:
            model = deformation_class(self.config.motion)
            with torch.random.fork_rng():  # networks are initialized from the global generator
                torch.manual_seed(self.config.seed)
                self.deformation = model.for_fit(self.gaussians, self.times)
            self.optimizer = self.new_optimizer(self.optimizer)
        known = frames[: self.joined]
        for frame in frames[self.joined :]:
            inward = -1 if frame > self.schedule.first else 1
            before = frame + 2 * inward
            self.deformation.begin_time(frame, frame + inward, before if before in known else None)
        self.joined = len(frames)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate(self.iteration, group)

    def _draw_frame(self) -> int:
        """Sample one of the newest frames, or any frame in proportion to its error."""
        frames, newest = self.schedule.frames(self.iteration), self.schedule.newest(self.iteration)
        newest = [frame for frame in newest if self.frame_errors[frame] > 0]
        if newest and torch.rand((), generator=self.generator) < self.config.newest_frame_prob:
            return newest[int(torch.randint(len(newest), (), generator=self.generator))]
        errors = self.frame_errors[frames]
        return frames[int(torch.multinomial(errors, 1, generator=self.generator))]

    def _draw_views(self, frame: int) -> np.ndarray:
        images = self.grid.at_frame(frame)
        order = torch.randperm(len(images), generator=self.generator)
        return images[order[: self.config.views_per_step].numpy()]

    def _optimize(self, frame: int, images: np.ndarray) -> float:
        """Take one Adam step on some images of one frame; return their mean PSNR in dB."""
        level = self.pyramid.level(self.schedule.image_size(self.iteration))
        time, device = self.times[frame], self.config.device
        backgrounds = self._backgrounds(len(images)).to(device)
        moved = self.deformation(self.gaussians, time)
        viewmats, Ks = camera_tensors([level.cameras[i] for i in images], moved.means)
        probe = self.config.densification.means2d_probe(len(images), moved.means)
        rendering = rasterize(
            moved.means, moved.quats, moved.scales.exp(), moved.opacities.sigmoid(),
            view_colors(moved, viewmats), viewmats, Ks, level.height, level.width, backgrounds,
            probe,
        )  # fmt: skip
        loss = image_loss(
            rendering.rgb, rendering.alpha, [level.images[i] for i in images], backgrounds,
            level.boxes[images], self._weights(images).to(device), self.config.loss_weights,
        )  # fmt: skip
        stiffness = self.schedule.stiffness(self.iteration, frame)
        total = loss.total + stiffness * self.deformation.regularization(self.gaussians, time)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        self.config.densification.observe(self.statistics, probe, level.height, level.width)
        psnr = self._record_error(frame, float(loss.squared_error.mean()))
        self.image_weights.update(images, loss.squared_error)
        return psnr

    def _weights(self, images: np.ndarray) -> Tensor:
        if self.config.robust_weights:
            return self.image_weights.weights(images)
        return torch.ones(len(images))

    def _backgrounds(self, count: int) -> Tensor:
        if self.config.random_background:
            return torch.rand(count, 3, generator=self.generator)
        return torch.ones(count, 3)

    def _record_error(self, frame: int, squared_error: float) -> float:
        """Update the running error of a frame; return the PSNR in dB."""
        if not math.isfinite(squared_error):
            raise DivergedError(
                f"the fit diverged at iteration {self.iteration}: expected finite pixels, found "
                "NaN or infinity; try another seed"
            )
        kept = (1 - NEW_ERROR_WEIGHT) * self.frame_errors[frame]
        self.frame_errors[frame] = kept + NEW_ERROR_WEIGHT * squared_error**0.5
        return -10 * math.log10(max(squared_error, 1e-10))

    def _densify(self) -> None:
        policy = self.config.densification
        due = (self.iteration + 1) % policy.every == 0
        if not due or self.schedule.progress(self.iteration) >= policy.stop_after:
            return
        rows = GaussianRows(self.parameters, self.deformation.gaussian_parameters(), self.optimizer)
        limits = Limits(self.schedule.max_gaussians(self.iteration), OBJECT_RADIUS)
        policy.step(rows, self.statistics, limits, self.generator)
        self.deformation.refresh(self.gaussians)


def _parameters(gaussians: Gaussians, device: str) -> dict[str, nn.Parameter]:
    return {
        name: nn.Parameter(value.float().to(device).contiguous())
        for name, value in gaussians._asdict().items()
    }


def _sample_given(
    given: InitialGaussians, config: FitConfig, generator: torch.Generator
) -> Gaussians:
    """Sample some of the Gaussians that come with a grid, enlarged to cover as much as all."""
    tensors = {name: torch.from_numpy(array).float() for name, array in given.arrays.items()}
    count = len(given.means)
    chosen = torch.randperm(count, generator=generator)[: config.initial_gaussians]
    tensors = {name: tensor[chosen] for name, tensor in tensors.items()}
    tensors["scales"] = tensors["scales"] + math.log(count / len(chosen)) / 2
    higher = (config.sh_degree + 1) ** 2 - 1
    return Gaussians(**tensors, shN=torch.zeros(len(chosen), higher, 3))


def _sample_hull(hull: Hull, config: FitConfig, generator: torch.Generator) -> Gaussians:
    """Sample points of the hull, mostly on its surface, jittered inside their voxels."""
    count = config.initial_gaussians
    weights = torch.from_numpy(np.where(hull.on_surface, 1.0, INNER_VOXEL_WEIGHT))
    chosen = torch.multinomial(
        weights, count, replacement=count > len(weights), generator=generator
    )
    jitter = (torch.rand(count, 3, generator=generator) - 0.5) * hull.voxel_size
    points = torch.from_numpy(hull.points[chosen]).float() + jitter
    volume = len(hull.points) * hull.voxel_size**3
    sigma = 0.6 * (volume / count) ** (1 / 3)
    rgb = torch.from_numpy(hull.rgb[chosen]).float()
    return gaussians_from_points(points, rgb, sigma, opacity=0.5, sh_degree=config.sh_degree)
