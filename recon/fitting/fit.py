"""Fitting canonical Gaussians and their motion to a grid, one step at a time.

    visual hull ─▶ one frame, no motion ─▶ motion, frame by frame outwards ─▶ all frames, full size

A grid may come with Gaussians of its middle frame, which then replace the visual hull.
Each step samples some views of one frame, so that the deformation is evaluated once. `Fit.step`
runs one; a program with a training loop of its own calls its parts, and `backward` between them.
The world's unit and place do not matter: a fit works in a frame of its own, in which the object of
the first frame has the radius `OBJECT_RADIUS` around the origin; `Fit.result` returns to the world.
Letters: N Gaussians, V views in a step, T times. Frame: normalized.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recon.activations import activated
from recon.deformation import Deformation
from recon.deformation.interface import deformation_class
from recon.errors import DivergedError, GridError, InputError
from recon.fitting.adam import Adam
from recon.fitting.config import FitConfig
from recon.fitting.densification import GaussianRows, Limits
from recon.fitting.image_pyramid import ImageLevel, ImagePyramid
from recon.fitting.image_weights import ImageWeights
from recon.fitting.initialization import sample_given, sample_hull
from recon.fitting.lost_parts import FrameImages, Points, is_lost, proposals, superfluous
from recon.fitting.schedule import Schedule
from recon.fitting.visual_hull import visual_hull
from recon.gaussians import Gaussians
from recon.grid.grid import Grid
from recon.losses import ImageLoss, image_loss
from recon.rasterizers import Rendering, rasterize
from recon.similarity import normalizing

NEW_ERROR_WEIGHT = 0.2  # weight of a new error in the running error of a frame
INITIAL_ERROR = 1e-2
MIN_SEEKING_VIEWS, MAX_SEEKING_VIEWS = 4, 16  # of a frame in which lost parts are looked for
SEEKING_EVERY, MOTION_ONLY_STEPS = 20, 80  # steps of a frame with lost parts
SEEKING_RESOLUTION = 64  # voxels along the diameter of the hull in which they are looked for
OBJECT_RADIUS = 0.78  # normalized units; that of the objects for which the settings were tuned


class Batch(NamedTuple):
    """The images of one step: some views of one frame.

    Attributes:
        frame: index of the frame.
        images: indices of the images in the grid, [V].
    """

    frame: int
    images: np.ndarray


class ForwardPass(NamedTuple):
    """The rendered images of a step and their loss.

    Attributes:
        batch: the images of the step.
        level: the images of the grid at the size of the step.
        moved: the Gaussians at the time of the frame, in the frame of the fit.
        rendering: the images as rendered, over random colors if the settings ask for them.
        image_loss: terms of the image loss.
        motion_loss: weighted regularization of the motion, a scalar.
        probe: what receives the gradients of the projected means, if the policy needs them.
    """

    batch: Batch
    level: ImageLevel
    moved: Gaussians
    rendering: Rendering
    image_loss: ImageLoss
    motion_loss: Tensor
    probe: Tensor | None

    @property
    def total(self) -> Tensor:
        """The loss whose gradients the step needs, a scalar."""
        return self.image_loss.total + self.motion_loss

    @property
    def squared_error(self) -> float:
        """Mean squared error of the images."""
        return float(self.image_loss.squared_error.mean())


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


class _Shown(NamedTuple):
    """Some images of a frame as the fit renders them."""

    frame: int
    indices: np.ndarray
    loss: float
    gaussians: Gaussians
    images: FrameImages


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
        lost_steps: steps since they joined of the frames in which parts are lost.

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
        self.frame_errors = np.where(images > 0, INITIAL_ERROR, 0.0)
        self.image_weights = ImageWeights(grid.frame, grid.is_input)
        self.statistics: dict[str, Tensor] = {}
        self.lost_steps: dict[int, int] = {}
        given = grid.initial_gaussians
        if given is not None and given.frame == self.schedule.first:
            self.T_normal_world = normalizing(given.means, OBJECT_RADIUS)
            given = self.T_normal_world.initial_gaussians(given)
            gaussians = sample_given(given, config, self.generator)
        else:
            hull = visual_hull(grid, self.schedule.first)
            self.T_normal_world = normalizing(hull.points, OBJECT_RADIUS)
            gaussians = sample_hull(hull.mapped(self.T_normal_world), config, self.generator)
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
        forward = self.forward(self.begin_step())
        forward.total.backward()
        return self.end_step(forward)

    def begin_step(self) -> Batch:
        """Follow the schedule and draw the images of the next step."""
        self._follow_schedule()
        frame = self._draw_frame()
        return Batch(frame, self._draw_views(frame))

    def forward(self, batch: Batch) -> ForwardPass:
        """Render the images of a step and compute their loss; clear the gradients.

        The pass of the step before must be gone, its loss too: as long as its graph lives, PyTorch
        expects gradients of the shapes that densification has since changed.
        """
        frame, images = batch
        level = self.pyramid.level(self.schedule.image_size(self.iteration))
        time = self.times[frame]
        backgrounds = self._backgrounds(len(images))
        moved = self.deformation(self.gaussians, time)
        probe = self.config.densification.means2d_probe(len(images), moved.means)
        loss, rendering = self._image_loss(level, images, moved, backgrounds, probe)
        stiffness = self.schedule.stiffness(self.iteration, frame)
        motion_loss = stiffness * self.deformation.regularization(self.gaussians, time)
        self.optimizer.zero_grad()
        return ForwardPass(batch, level, moved, rendering, loss, motion_loss, probe)

    def end_step(self, forward: ForwardPass) -> Step:
        """Take an Adam step with the gradients of `forward.total`, then densify and prune.

        Raises:
            DivergedError: the rendered images contain NaN or infinities.
        """
        frame, images = forward.batch
        level = forward.level
        lost = frame in self.lost_steps
        if lost:
            shown = _frame_images(level, images, forward.rendering.alpha)
            self._keep_lost_parts(frame, forward.moved, shown)
        for group in self.optimizer.groups_with_gradients():
            group["lr"] = self.schedule.learning_rate(self.iteration, group)
        self.optimizer.step()
        if lost:
            self._follow_lost_parts(frame)
        policy = self.config.densification
        policy.observe(self.statistics, forward.probe, level.height, level.width)
        psnr = self._record_error(frame, forward.squared_error)
        self.image_weights.update(images, forward.image_loss.squared_error.cpu().numpy())
        self._densify()
        self.iteration += 1
        return Step(self.iteration, psnr, len(self.parameters["means"]))

    def result(self) -> tuple[Gaussians, Deformation]:
        """Return detached copies of the Gaussians and the motion model, in the world."""
        T_world_normal = self.T_normal_world.inverse()
        gaussians = self.gaussians.map(lambda tensor: tensor.detach().clone())
        deformation = T_world_normal.deformation(self.deformation).requires_grad_(False)
        return T_world_normal.gaussians(gaussians), deformation

    def new_optimizer(self, old: Adam | None = None) -> Adam:
        """Make an Adam over all parameters; the Gaussians keep their moments from `old`."""
        rates = self.config.learning_rates
        groups = [
            {
                "params": [value],
                "lr": getattr(rates, name),
                "name": name,
                "motion": False,
                "canonical": True,
            }
            for name, value in self.parameters.items()
        ]
        groups += [group | {"motion": True} for group in self.deformation.parameter_groups()]
        for group in groups:
            group["initial_lr"] = group["lr"]
        optimizer = Adam(groups)
        if old is not None:
            for parameter in self.parameters.values():
                if parameter in old.state:
                    optimizer.state[parameter] = old.state[parameter]
        return optimizer

    def _follow_schedule(self) -> None:
        """Add the frames that are due, and create the motion model."""
        frames = self.schedule.frames(self.iteration)
        if len(frames) > 1 and self.deformation.name != self.config.motion:
            model = deformation_class(self.config.motion)
            with torch.random.fork_rng():  # networks are initialized from the global generator
                torch.manual_seed(self.config.seed)
                self.deformation = model.for_fit(self.gaussians, self.times)
            self.optimizer = self.new_optimizer(self.optimizer)
        known = frames[: self.joined]
        for frame in frames[self.joined :]:
            self._begin_frame(frame, known)
        self.joined = len(frames)

    @torch.no_grad()
    def _begin_frame(self, frame: int, known: Sequence[int]) -> None:
        """Initialize the motion of a frame that joins, as its images demand.

        The motion continues or rests, whichever shows the images better. Then lost parts are looked
        for, before gradients hide them behind others.
        """
        inward = -1 if frame > self.schedule.first else 1
        neighbor, before = frame + inward, frame + 2 * inward
        self.deformation.begin_time(frame, neighbor, before if before in known else None)
        images = self._seeking_images(frame)
        if len(images) < MIN_SEEKING_VIEWS:
            return
        shown = self._shown(frame, images)
        if before in known:
            shown = self._try(lambda: self.deformation.begin_time(frame, neighbor, None), shown)
        if is_lost(shown.images, shown.gaussians):
            self.lost_steps[frame] = 0
            self._seek_lost_parts(shown)

    @torch.no_grad()
    def _seek_lost_parts(self, shown: _Shown) -> None:
        """Move parts outside of the silhouettes to where images are unexplained, if that helps."""
        frame, best = shown.frame, shown
        rng = np.random.default_rng((self.config.seed, frame, self.iteration))
        for targets in proposals(shown.images, shown.gaussians, self._hull_points(frame), rng):
            best = self._try(
                partial(self.deformation.attract, frame, self.gaussians, targets), best
            )

    def _follow_lost_parts(self, frame: int) -> None:
        """Count a step of a frame with lost parts; look again every few steps."""
        self.lost_steps[frame] += 1
        steps = self.lost_steps[frame]
        if steps % SEEKING_EVERY:
            return
        shown = self._shown(frame, self._seeking_images(frame))
        if not is_lost(shown.images, shown.gaussians):
            del self.lost_steps[frame]
        elif steps < MOTION_ONLY_STEPS:
            self._seek_lost_parts(shown)

    def _keep_lost_parts(self, frame: int, moved: Gaussians, images: FrameImages) -> None:
        """Drop gradients with which a frame would fade out, in all frames, what it does not show.

        At first only the motion is optimized; later all but what is outside of the silhouettes.
        """
        kept = torch.ones(len(moved.means), dtype=torch.bool)
        if self.lost_steps[frame] >= MOTION_ONLY_STEPS:
            means = moved.means.detach().double().cpu().numpy()
            kept = torch.from_numpy(superfluous(images, means))
        kept = kept.to(moved.means.device)
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if group.get("canonical", False) and parameter.grad is not None:
                    parameter.grad[kept] = 0

    def _seeking_images(self, frame: int) -> np.ndarray:
        images = self.grid.at_frame(frame)
        return images[:: max(1, math.ceil(len(images) / MAX_SEEKING_VIEWS))]

    def _try(self, change: Callable[[], None], best: _Shown) -> _Shown:
        """Change the motion; undo it if the images of a frame do not get better."""
        state = copy.deepcopy(self.deformation.state_dict())
        change()
        found = self._shown(best.frame, best.indices)
        if found.loss < best.loss:
            return found
        self.deformation.load_state_dict(state)
        return best

    @torch.no_grad()
    def _shown(self, frame: int, indices: np.ndarray) -> _Shown:
        """Render images of a frame as they are now."""
        level = self.pyramid.level(self.schedule.image_size(self.iteration))
        moved = self.deformation(self.gaussians, self.times[frame])
        loss, rendering = self._image_loss(level, indices, moved, torch.ones(len(indices), 3))
        images = _frame_images(level, indices, rendering.alpha)
        return _Shown(frame, indices, float(loss.total), moved, images)

    def _hull_points(self, frame: int) -> Points:
        """Return the visual hull of a frame; empty if the silhouettes contradict each other."""
        try:
            hull = visual_hull(self.grid, frame, resolution=SEEKING_RESOLUTION)
        except GridError:
            return Points(np.zeros((0, 3)), np.zeros((0, 3)))
        return Points(self.T_normal_world.points(hull.points), hull.rgb)

    def _draw_frame(self) -> int:
        """Sample one of the newest frames, or any frame in proportion to its error."""
        frames, newest = self.schedule.frames(self.iteration), self.schedule.newest(self.iteration)
        newest = [frame for frame in newest if self.frame_errors[frame] > 0]
        if newest and torch.rand((), generator=self.generator) < self.config.newest_frame_prob:
            return newest[int(torch.randint(len(newest), (), generator=self.generator))]
        sums = np.cumsum(self.frame_errors[frames])
        drawn = float(torch.rand((), generator=self.generator)) * sums[-1]
        return frames[min(int(np.searchsorted(sums, drawn, "right")), len(frames) - 1)]

    def _draw_views(self, frame: int) -> np.ndarray:
        images = self.grid.at_frame(frame)
        order = torch.randperm(len(images), generator=self.generator)
        return images[order[: self.config.views_per_step].numpy()]

    def _image_loss(
        self,
        level: ImageLevel,
        images: np.ndarray,
        moved: Gaussians,
        backgrounds: Tensor,
        probe: Tensor | None = None,
    ) -> tuple[ImageLoss, Rendering]:
        """Render some images; return their loss and the rendering."""
        device = self.config.device
        backgrounds = backgrounds.to(device)
        rows = torch.from_numpy(images)
        viewmats, Ks = (x.index_select(0, rows.to(device)) for x in (level.viewmats, level.Ks))
        rendering = rasterize(
            moved.means, moved.quats, *activated(moved, viewmats), viewmats, Ks,
            level.height, level.width, backgrounds, probe,
        )  # fmt: skip
        loss = image_loss(
            rendering.rgb, rendering.alpha, [level.images[i] for i in images], backgrounds,
            level.boxes.index_select(0, rows), self._weights(images), self.config.loss_weights,
        )  # fmt: skip
        return loss, rendering

    def _weights(self, images: np.ndarray) -> Tensor:
        robust = self.config.robust_weights
        weights = self.image_weights.weights(images) if robust else np.ones(len(images))
        return torch.from_numpy(weights).float().to(self.config.device)

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
        self.frame_errors[frame] *= 1 - NEW_ERROR_WEIGHT
        self.frame_errors[frame] += NEW_ERROR_WEIGHT * squared_error**0.5
        return -10 * math.log10(max(squared_error, 1e-10))

    def _densify(self) -> None:
        policy = self.config.densification
        due = (self.iteration + 1) % policy.every == 0
        if not due or self.schedule.progress(self.iteration) >= policy.stop_after:
            return
        rows = GaussianRows(
            self.parameters, self.deformation.gaussian_parameters(), self.optimizer.state
        )
        limits = Limits(self.schedule.max_gaussians(self.iteration), OBJECT_RADIUS)
        policy.step(rows, self.statistics, limits, self.generator)
        self.deformation.refresh(self.gaussians)


def _parameters(gaussians: Gaussians, device: str) -> dict[str, nn.Parameter]:
    return {
        name: nn.Parameter(value.float().to(device).contiguous())
        for name, value in gaussians._asdict().items()
    }


def _frame_images(level: ImageLevel, indices: np.ndarray, alpha: Tensor) -> FrameImages:
    return FrameImages(
        [level.cameras[i] for i in indices],
        np.stack([level.images[i][..., 3].cpu().numpy() / 255 for i in indices]),
        alpha.detach().cpu().numpy(),
    )
