"""Per-image robust weights: images that contradict the others of their frame have less weight.

    w_i = min(1, (SLACK · median error of the frame's images / error of image i)²)

If all images show the same shape, their errors are similar and all weights are 1. A generated view
may show another shape than the rest; with full weight it would blur the scene. The images of the
input view are not generated, so they have a fixed, larger weight. Letters: M images, V of them in a
step.

Source: iteratively reweighted M-estimators, Huber, Robust Statistics, 1981, §7.8.
"""

from __future__ import annotations

import numpy as np

SLACK = 1.5  # ratio to the median error up to which an image has full weight
MIN_WEIGHT = 0.1
SMOOTHING = 0.8  # weight of the past in the running error
INPUT_VIEW_WEIGHT = 12.0


class ImageWeights:
    """Robust weights of a grid's images from their running errors.

    Args:
        frame: frame index of each image, [M].
        is_input: whether an image belongs to the input view, bool, [M]; None: none does.

    Attributes:
        errors: running root-mean-square color error of each image; 0 before its first update, [M].
    """

    def __init__(self, frame: np.ndarray, is_input: np.ndarray | None = None):
        self._is_input = np.zeros(len(frame), bool) if is_input is None else is_input
        self._frame = np.asarray(frame)
        self.errors = np.zeros(len(frame))

    def weights(self, images: np.ndarray) -> np.ndarray:
        """Return the weights of some images of one frame, [V].

        They are in [`MIN_WEIGHT`, 1], or `INPUT_VIEW_WEIGHT` for the input view.
        """
        known = self.errors[self._frame == self._frame[images[0]]]
        known = known[known > 0]
        robust = np.ones(len(images))
        if len(known) >= 3:
            median = np.sort(known)[(len(known) - 1) // 2]
            ratio = SLACK * median / np.maximum(self.errors[images], 1e-12)
            robust = np.minimum(np.maximum(ratio**2, MIN_WEIGHT), 1.0)
        return np.where(self._is_input[images], INPUT_VIEW_WEIGHT, robust)

    def update(self, images: np.ndarray, squared_errors: np.ndarray) -> None:
        """Update the running errors with the mean squared errors of some images, [V]."""
        now, before = np.sqrt(squared_errors), self.errors[images]
        smoothed = now + SMOOTHING * (before - now)
        self.errors[images] = np.where(before > 0, smoothed, now)
