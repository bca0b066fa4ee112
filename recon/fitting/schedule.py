"""When a fit does what: everything here follows from the number of the iteration.

    static    one frame, near the middle of the clip
    motion    the other frames join in rounds, one before and one after those that are there
    refinement   all frames, at last in full size

Letters: T frames. What it does not know: images, Gaussians, how a frame is fitted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recon.fitting.config import FitConfig


class Schedule:
    """The course of a fit.

    Args:
        config: its fractions and sizes are taken.
        images: number of images of each frame, [T].
        full_size: longer edge of the images in pixels.

    Attributes:
        order: the frames in the order in which they join.
    """

    def __init__(self, config: FitConfig, images: np.ndarray, full_size: int):
        self._config, self._full_size = config, full_size
        self.first = first_frame(images)
        self.order = sorted(
            range(len(images)), key=lambda frame: (abs(frame - self.first), frame < self.first)
        )
        moving = len(images) > 1 and config.motion != "static"
        self._growth_begins = config.static
        self._growth_ends = config.static + (config.growth if moving else 0.0)
        self._rounds = self._joins(self.order[-1]) if moving else 0

    def progress(self, iteration: int) -> float:
        """Fraction of the iterations that are made."""
        return iteration / self._config.iterations

    def frames(self, iteration: int) -> list[int]:
        """Frames that have joined, in the order in which they did."""
        joined = int(self._round(iteration))
        return [frame for frame in self.order if self._joins(frame) <= joined]

    def newest(self, iteration: int) -> list[int]:
        """The frames of the present round; none before and after the growth."""
        if not self._growth_begins <= self.progress(iteration) < self._growth_ends:
            return []
        joined = int(self._round(iteration))
        return [frame for frame in self.order if self._joins(frame) == joined]

    def stage(self, iteration: int) -> str:
        """What is going on: "static", "motion" or "refinement"."""
        progress = self.progress(iteration)
        if progress < self._growth_begins:
            return "static"
        return "motion" if progress < self._growth_ends else "refinement"

    def image_size(self, iteration: int) -> int:
        """Longer edge of the images in pixels."""
        config, progress = self._config, self.progress(iteration)
        if progress < self._growth_ends:
            return min(config.growth_size, self._full_size)
        if progress < self._growth_ends + config.middle:
            return min(config.middle_size, self._full_size)
        return self._full_size

    def gaussians(self, iteration: int) -> int:
        """Cap on their number: small images need fewer, and a step takes the longer the more."""
        growing = self.progress(iteration) < self._growth_ends
        cap = self._config.gaussians
        return min(self._config.initial_gaussians, cap) if growing else cap

    def rate(self, iteration: int, group: dict[str, Any]) -> float:
        """Adam's learning rate of a parameter group with `name`, `motion` and maybe `time`."""
        rates, progress = self._config.rates, self.progress(iteration)
        settled = max(0.0, progress - self._growth_ends) / max(1e-9, 1 - self._growth_ends)
        if group["name"] == "means":
            factor = (rates.means_end / rates.means) ** progress
        elif not group["motion"]:
            factor = rates.end**settled
        else:
            factor = rates.motion_end**settled
        if "time" in group:
            factor *= 1 + rates.motion_start * 0.1 ** self._age(iteration, group["time"])
        return group["initial_lr"] * factor

    def stiffness(self, iteration: int, frame: int) -> float:
        """Factor of the motion's regularisation: a limb shall turn before it may bend or shrink."""
        return 1 + self._config.stiff_start * 0.1 ** self._age(iteration, frame)

    def _joins(self, frame: int) -> int:
        """The round in which a frame joins; 0 for the first one."""
        return abs(frame - self.first)

    def _age(self, iteration: int, frame: int) -> float:
        """Rounds since a frame joined."""
        return max(0.0, self._round(iteration) - self._joins(frame))

    def _round(self, iteration: int) -> float:
        """The round in which frames join, from 1; the fraction says how far it is. 0 before."""
        progress = self.progress(iteration)
        if self._rounds == 0 or progress < self._growth_begins:
            return 0.0
        done = (progress - self._growth_begins) / max(1e-9, self._growth_ends - self._growth_begins)
        return 1 + done * self._rounds


def first_frame(images: np.ndarray) -> int:
    """The frame that is fitted first: of those with most images the one nearest to the middle."""
    candidates = np.flatnonzero(images == images.max())
    return int(candidates[np.abs(candidates - len(images) // 2).argmin()])
