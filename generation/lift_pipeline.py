"""The pipeline of `lift`: a feed-forward network lifts the pixels of view 0 to surfaces.

    clip ──square──▶ images ──network──▶ layers ──▶ surfaces ──▶ grid

The layers are saved before the views are drawn. `generation.lift.lifting` has the method.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generation.checkpoint import Checkpoint
from generation.clip.preparing import Clip, SquareClip
from generation.cost import Estimate, count_flops, disk_bytes, measured_rate, peak_bytes
from generation.lift.lifting import (
    BATCH,
    LiftedLayers,
    Predictor,
    Steps,
    draw_views,
    middle_gaussians,
    network_images,
    predict_layers,
    predict_yaw,
    seen_by,
    surface_layers,
)
from generation.lift.network import LiftConfig, LiftNetwork, build_network
from generation.pipeline import MadeGrid, Pipeline, UsedFile
from generation.plan import Plan, even_azimuths
from generation.settings import GenerateSettings
from generation.weights.files import WeightsFile
from generation.weights.model_weights import open_lift
from generation.weights.store import find_lift
from recon.errors import WeightsError
from recon.grid import grid_from_views
from recon.progress import OnStep, ShouldStop, ignore_progress, never_stop

SIZE = 256
AZIMUTHS_DEG = tuple(22.5 * k for k in range(1, 16))
ELEVATION_DEG = 10.0  # the middle of the training's range
RATIO = 0.7
"""Longest side of the object over the side of the image. The network was trained on objects whose
farthest point is at 0.6 to 0.85 of half the image, in any direction. An object may be longer along
the view than across it, by up to 1 / 0.7 before it leaves the image in other views."""
LAYERS = "layers"  # name of the saved state
BATCH_LOW_MEMORY = 1
SECONDS_PER_PIXEL = 1.5e-7  # of drawing a view


@dataclass
class LiftPipeline(Pipeline[Plan]):
    """`lift` with its weights.

    Attributes:
        weights: the opened weights.
        keep_networks: whether the network stays in memory for the next grid.
    """

    weights: WeightsFile
    keep_networks: bool = True
    _network: LiftNetwork | None = field(default=None, init=False)

    @classmethod
    def open(
        cls,
        settings: GenerateSettings,
        weights_folder: Path | None = None,
        keep_networks: bool = True,
    ) -> LiftPipeline:
        """See `Pipeline.open`."""
        return cls(settings, open_lift(weights_folder), keep_networks)

    @staticmethod
    def prepare(clip: Clip | SquareClip, settings: GenerateSettings) -> tuple[SquareClip, Plan]:
        """See `Pipeline.prepare`."""
        azimuths, elevation = settings.azimuths_deg or AZIMUTHS_DEG, settings.elevation_deg
        if not settings.azimuths_deg and settings.views is not None:
            azimuths = even_azimuths(settings.views)
        plan = Plan(
            azimuths_deg=azimuths,
            elevation_deg=ELEVATION_DEG if elevation is None else elevation,
            fov_deg=settings.fov_deg,
            distance=settings.distance,
            clockwise=settings.clockwise,
        )
        return clip.square(settings.size or SIZE, RATIO, around_object=True), plan

    @staticmethod
    def find_files(plan: Plan, weights_folder: Path | None = None) -> dict[str, Path | None]:
        """See `Pipeline.find_files`."""
        try:
            return {"lift": find_lift(weights_folder)}
        except WeightsError:
            return {"lift": None}

    @staticmethod
    def estimate_cost(
        plan: Plan,
        settings: GenerateSettings,
        size: int,
        frames: int,
        rate_flops: float,
        weights_folder: Path | None = None,
    ) -> Estimate:
        """See `Pipeline.estimate_cost`; without weights, for the default network."""
        found = LiftPipeline.find_files(plan, weights_folder)["lift"]
        config = LiftConfig() if found is None else open_lift(weights_folder).config
        return _estimate(config, plan, settings, size, frames, rate_flops)

    @staticmethod
    def facts(plan: Plan, settings: GenerateSettings) -> dict[str, Any]:
        """See `Pipeline.facts`."""
        return {"dtype": str(working_dtype(settings)).removeprefix("torch.")}

    @staticmethod
    def work(plan: Plan, size: int) -> dict[str, Any]:
        """See `Pipeline.work`."""
        return {"grids": [size]}

    def estimate(self, clip: Clip | SquareClip) -> Estimate:
        """See `Pipeline.estimate`."""
        square, plan = self.prepare(clip, self.settings)
        frames, size = square.images.shape[:2]
        rate = measured_rate(self.settings.device)
        return _estimate(self.weights.config, plan, self.settings, size, frames, rate)

    def make_grid(
        self,
        clip: SquareClip,
        plan: Plan,
        checkpoint: Checkpoint,
        on_step: OnStep = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> MadeGrid:
        """See `Pipeline.make_grid`."""
        seconds: dict[str, float] = {}
        small = network_images(clip.images, self.weights.config.size)
        layers, steps = self._layers(small, plan, checkpoint, on_step, should_stop, seconds)
        with _timed(seconds, "smooth"):
            in_world = [
                seen_by(each, plan.fov_deg, plan.distance)
                for each in surface_layers(layers, small, clip.images)
            ]
        with _timed(seconds, "draw"):
            own, *others = plan.cameras(clip.images.shape[1])
            views = draw_views(in_world, clip.images, own, others, steps)
        images = np.concatenate([clip.images[None], views])
        grid = grid_from_views(
            [own, *others], images, clip.fps, clip.alpha_known, 0, times=clip.frame_times
        )
        grid = replace(grid, initial_gaussians=middle_gaussians(in_world, clip.images, own))
        yaw_deg = [
            None if math.isnan(yaw) else round(math.degrees(yaw), 1) for yaw in layers.yaw.tolist()
        ]
        return MadeGrid(grid, seconds, {"yaw_deg": yaw_deg})

    def _layers(
        self,
        small: torch.Tensor,
        plan: Plan,
        checkpoint: Checkpoint,
        on_step: OnStep,
        should_stop: ShouldStop,
        seconds: dict[str, float],
    ) -> tuple[LiftedLayers, Steps]:
        """Predict the layers, or read the saved ones; return also the progress of the rest."""
        frames = len(small)
        total = 3 * frames
        saved = checkpoint.load(LAYERS)
        if saved is not None:
            seconds |= saved.description["seconds"]
            steps = Steps(frames, on_step, should_stop, before=total - frames)
            return LiftedLayers(**saved.tensors), steps
        steps = Steps(total, on_step, should_stop)
        with _timed(seconds, "load"):
            predictor = self._predictor()
        elevation = math.radians(plan.elevation_deg)
        with _timed(seconds, "predict"):
            yaw = predict_yaw(predictor, small, elevation, steps)
            layers = predict_layers(predictor, small, elevation, yaw, steps)
        checkpoint.save(LAYERS, layers._asdict(), {"seconds": seconds})
        return layers, steps

    def _predictor(self) -> Predictor:
        network = self._network
        if network is None:
            network = self.weights.build(torch.float32, self.settings.device)
        if self.keep_networks:
            self._network = network
        batch = BATCH_LOW_MEMORY if self.settings.low_memory else BATCH
        return Predictor(network, working_dtype(self.settings), batch)

    def used_files(self) -> list[tuple[str, UsedFile]]:
        """See `Pipeline.used_files`."""
        return [("lift", UsedFile(self.weights.path, self.weights.sha256))]

    def weights_identity(self) -> dict[str, dict[str, int | str]]:
        """See `Pipeline.weights_identity`."""
        return {"weights": {"lift": self.weights.sha256}}


def working_dtype(settings: GenerateSettings) -> torch.dtype:
    """Return the floating-point type of the network's matrix products."""
    if settings.precision != "auto":
        return getattr(torch, settings.precision)
    fast = settings.device == "cuda" or _cpu_has_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def _cpu_has_bfloat16() -> bool:
    """Return whether the CPU multiplies matrices of bfloat16; others emulate that, slowly."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))


def _estimate(
    config: LiftConfig,
    plan: Plan,
    settings: GenerateSettings,
    size: int,
    frames: int,
    rate_flops: float,
) -> Estimate:
    views = len(plan.azimuths_deg)
    batch = BATCH_LOW_MEMORY if settings.low_memory else min(BATCH, frames)
    per_frame, memory = _network_cost(config, batch)
    flops = frames * per_frame
    layers = frames * config.size**2 * (4 * 4 + 4 + 3 * 3)
    drawing = views * frames * size**2 * SECONDS_PER_PIXEL
    return Estimate(
        memory + layers + 2 * (views + 1) * frames * size**2 * 4,
        disk_bytes(views, size, frames) + layers,
        flops,
        flops / rate_flops + drawing,
    )


@cache
@torch.inference_mode()
def _network_cost(config: LiftConfig, batch: int) -> tuple[int, int]:
    """Return the operations for a frame, and the bytes of the network and of one call."""
    with torch.device("meta"):
        network = build_network(config).eval()
        image = torch.empty(2 * batch, 4, config.size, config.size)
        angle = torch.empty(2 * batch)
    operations = 2 * count_flops(lambda: network(image, angle, angle))  # yaw, then layers
    weights = sum(4 * parameter.numel() for parameter in network.parameters())
    return operations // batch, weights + peak_bytes(lambda: network(image, angle, angle))


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[part] = time.monotonic() - began
