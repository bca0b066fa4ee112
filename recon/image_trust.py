"""How far each image of a grid is believed, from how well it agrees with the others of its time.

    w_i = min(1, (SLACK · median error of the time's images / error of image i)²)

Images of one object agree, up to how much detail each shows: all weights are 1. Of views that were
generated one by one, some show another shape than the rest; a scene that has to please them as well
blurs where they differ. Letters: M images, V of them in a step. What it does not know: why an image
disagrees.

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


class ImageTrust:
    """The running error of each image.

    Attributes:
        errors: root mean squared difference of colour, 0 for images that were not drawn yet, [M].
    """

    def __init__(self, frame: np.ndarray):
        """Believes all images.

        Args:
            frame: index of each image's time, [M].
        """
        self._frame = torch.from_numpy(np.asarray(frame))
        self.errors = torch.zeros(len(frame))

    def weights(self, images: np.ndarray) -> Tensor:
        """Factors of some images of one time in the loss, in [`LEAST`, 1], [V]."""
        errors = self.errors[torch.from_numpy(images)]
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
