"""Schedule of a fit: phase, frames, image size and learning rates of every iteration.

    static       one frame, near the middle of the clip
    motion       the other frames join in rounds, one before and one after those that have joined
    refinement   all frames, finally at full size

Letters: T frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recon.fitting.config import FitConfig

# Fitted to CPU fits of 64² to 256² with bones; the cost of joining frames is spread over the steps.
COST_SIZE, COST_OF_PIXELS, COST_OF_MOTION = 128, 0.25, 1.1
DECAY_PER_ROUND = 0.1  # decay of a new frame's extra learning rate and stiffness


class Schedule:
    """Schedule of a fit as a function of the iteration.

    Args:
        config: settings; only fractions, sizes and rates are used.
        images: number of images of each frame, [T].
        full_size: longer image edge in pixels.

    Attributes:
        first: index of the frame that is fitted first.
        order: all frames in the order in which they join.
    """

    def __init__(self, config: FitConfig, images: np.ndarray, full_size: int):
        self._config, self._full_size = config, full_size
        self.first = first_frame(images)
        self.order = sorted(
            range(len(images)), key=lambda frame: (abs(frame - self.first), frame < self.first)
        )
        moving = len(images) > 1 and config.motion != "static"
        self._motion_begin = config.static_fraction
        self._motion_end = config.static_fraction + (config.motion_fraction if moving else 0.0)
        self._rounds = self._joining_round(self.order[-1]) if moving else 0

    def progress(self, iteration: int) -> float:
        """Return the fraction of the iterations that are done, in [0, 1]."""
        return iteration / self._config.iterations

    def phase(self, iteration: int) -> str:
        """Return "static", "motion" or "refinement"."""
        progress = self.progress(iteration)
        if progress < self._motion_begin:
            return "static"
        return "motion" if progress < self._motion_end else "refinement"

    def frames(self, iteration: int) -> list[int]:
        """Return the frames that have joined, in the order of joining."""
        current = int(self._round(iteration))
        return [frame for frame in self.order if self._joining_round(frame) <= current]

    def newest(self, iteration: int) -> list[int]:
        """Return the frames that joined in the current round; none outside the motion phase."""
        if not self._motion_begin <= self.progress(iteration) < self._motion_end:
            return []
        current = int(self._round(iteration))
        return [frame for frame in self.order if self._joining_round(frame) == current]

    def image_size(self, iteration: int) -> int:
        """Return the longer image edge in pixels."""
        config, progress = self._config, self.progress(iteration)
        if progress < self._motion_end:
            return min(config.motion_image_size, self._full_size)
        if progress < self._motion_end + config.middle_fraction:
            return min(config.middle_image_size, self._full_size)
        return self._full_size

    def max_gaussians(self, iteration: int) -> int:
        """Return the cap on N, which is lower before refinement: small images need fewer."""
        config = self._config
        if self.progress(iteration) < self._motion_end:
            return min(config.initial_gaussians, config.max_gaussians)
        return config.max_gaussians

    def cost(self, iteration: int) -> float:
        """Return the expected duration of an iteration, relative to a static one at 128 pixels."""
        moves = self._rounds > 0 and self.phase(iteration) != "static"
        pixels = (self.image_size(iteration) / COST_SIZE) ** 2
        return 1 - COST_OF_PIXELS + COST_OF_PIXELS * pixels + COST_OF_MOTION * moves

    def learning_rate(self, iteration: int, group: dict[str, Any]) -> float:
        """Return the learning rate of one of Adam's parameter groups.

        Args:
            iteration: number of iterations done.
            group: parameter group with `name`, `motion` (whether it belongs to the deformation),
                `initial_lr` and, if it belongs to a single frame, `time` (the frame's index).
        """
        rates, progress = self._config.learning_rates, self.progress(iteration)
        refined = max(0.0, progress - self._motion_end) / max(1e-9, 1 - self._motion_end)
        if group["name"] == "means":
            factor = (rates.means_final / rates.means) ** progress
        elif not group["motion"]:
            factor = rates.final_factor**refined
        else:
            factor = rates.motion_final_factor**refined
        if "time" in group:
            novelty = DECAY_PER_ROUND ** self._age(iteration, group["time"])
            factor *= 1 + rates.new_frame_boost * novelty
        return group["initial_lr"] * factor

    def stiffness(self, iteration: int, frame: int) -> float:
        """Return the factor of the motion's regularization for a frame.

        It is larger for new frames, so that limbs first rotate and only then deform.
        """
        return 1 + self._config.new_frame_stiffness * DECAY_PER_ROUND ** self._age(iteration, frame)

    def _joining_round(self, frame: int) -> int:
        """The round in which a frame joins; 0 for the first frame."""
        return abs(frame - self.first)

    def _age(self, iteration: int, frame: int) -> float:
        """Rounds since a frame joined, at least 0."""
        return max(0.0, self._round(iteration) - self._joining_round(frame))

    def _round(self, iteration: int) -> float:
        """The current round plus the fraction of it that is done; 0 in the static phase."""
        progress = self.progress(iteration)
        if self._rounds == 0 or progress < self._motion_begin:
            return 0.0
        done = (progress - self._motion_begin) / max(1e-9, self._motion_end - self._motion_begin)
        return 1 + done * self._rounds


def first_frame(images: np.ndarray) -> int:
    """Return the frame nearest to the middle among those with the most images.

    Args:
        images: number of images of each frame, [T].
    """
    candidates = np.flatnonzero(images == images.max())
    return int(candidates[np.abs(candidates - len(images) // 2).argmin()])
