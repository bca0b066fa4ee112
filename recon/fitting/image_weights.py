"""How far each image of a grid is believed, from how well it agrees with the others of its time.

    w_i = min(1, (SLACK · median error of the time's images / error of image i)²)

Images of one object agree, up to how much detail each shows: all weights are 1. Of views that were
generated one by one, some show another shape than the rest; a scene that has to please them as well
blurs where they differ. What was filmed is no opinion: it counts more than any of those that were
generated from it, however many of them agree on something else. Letters: M images, V of them in a
step. What it does not know: why an image disagrees.

Source: the weights of Cauchy-like M-estimators beyond a threshold, as Huber, Robust Statistics,
1981, §7.8, computes them between iterations.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SLACK = 1.5  # by how much an image may be worse than the median before it counts less
LEAST = 0.1
MEMORY = 0.8
FILMED = 12.0  # what an image of the input counts among generated ones


class ImageTrust:
    """The running error of each image.

    Attributes:
        errors: root mean squared difference of colour, 0 for images that were not drawn yet, [M].
    """

    def __init__(self, frame: np.ndarray, filmed: np.ndarray | None = None):
        """Believes all images.

        Args:
            frame: index of each image's time, [M].
            filmed: which images are the input's, bool, [M]; none if None.
        """
        self._filmed = torch.from_numpy(np.zeros(len(frame), bool) if filmed is None else filmed)
        self._frame = torch.from_numpy(np.asarray(frame))
        self.errors = torch.zeros(len(frame))

    def weights(self, images: np.ndarray) -> Tensor:
        """Factors of some images of one time in the loss, [V].

        In [`LEAST`, 1], or `FILMED`.
        """
        rows = torch.from_numpy(images)
        agreement = self._agreement(images, self.errors[rows])
        return torch.where(self._filmed[rows], FILMED, agreement)

    def _agreement(self, images: np.ndarray, errors: Tensor) -> Tensor:
        known = self.errors[(self._frame == self._frame[images[0]]) & (self.errors > 0)]
        if len(known) < 3:
            return torch.ones(len(images))
        usual = SLACK * known.median()
        return (usual / errors.clamp_min(1e-12)).square().clamp(LEAST, 1.0)

    def note(self, images: np.ndarray, squared_errors: Tensor) -> None:
        """Takes in the mean squared errors of images that were drawn, [V]."""
        rows, now = torch.from_numpy(images), squared_errors.detach().cpu().float().sqrt()
        before = self.errors[rows]
        self.errors[rows] = torch.where(before > 0, torch.lerp(now, before, MEMORY), now)
