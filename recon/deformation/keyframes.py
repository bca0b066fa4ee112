"""Keyframes: every Gaussian has a translation and a rotation of its own at every fitted time.

The freest motion model and a cheap one. Nothing but `regularization` ties the Gaussians together:
it asks each of them to carry its neighbours along as a rigid body, and to move evenly.

Letters: N Gaussians, T fitted times, k neighbours, d translations, R rotations.
Frame: world; a Gaussian is turned about its own centre, by R after its canonical rotation.
What it does not know: that colours which depend on the view would turn as well; they stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor, nn

from recon.deformation.interface import Deformation
from recon.deformation.poses import Pose, ascending, continued, pose_at
from recon.deformation.state import restore_state
from recon.errors import SceneError
from recon.gaussians import Gaussians
from recon.rotations import multiply_quats, quats_to_matrices

NEIGHBOURS = 8
TRANSLATION_RATE = 2e-3
ROTATION_RATE = 4e-3
SMALLEST_LENGTH = 1e-6  # where all Gaussians are in one place


class KeyframeDeformation(Deformation):
    """Poses at the fitted times, linear between them; the identity until it is fitted.

    Each time has parameters of its own, so that an optimiser leaves the times alone that had no
    part in a step. All parameters have one row for each Gaussian.

    Args:
        times: of the fitted images, ascending, T ≥ 1 of them.
        count: N.
        rigidity: weight in `regularization` of the mean deviation of the neighbours from a rigid
            motion, as a fraction of their mean distance.
        smoothness: weight in `regularization` of the mean distance of a translation from even
            motion between the times before and after it, as a fraction of the object's radius.

    Raises:
        ValueError: `times` is empty or does not ascend.
    """

    name: ClassVar[str] = "keyframes"
    neighbours: Tensor

    def __init__(
        self, times: Sequence[float], count: int, rigidity: float = 0.02, smoothness: float = 0.02
    ):
        super().__init__()
        self.times = ascending(times)
        self.rigidity = rigidity
        self.smoothness = smoothness
        identity = torch.tensor([1.0, 0.0, 0.0, 0.0])
        self.translations = nn.ParameterList(torch.zeros(count, 3) for _ in self.times)
        self.rotations = nn.ParameterList(identity.repeat(count, 1) for _ in self.times)
        self.register_buffer("neighbours", torch.empty(0, 0, dtype=torch.long), persistent=False)

    @classmethod
    def for_fit(cls, gaussians: Gaussians, times: Sequence[float]) -> KeyframeDeformation:
        """Without motion, on the Gaussians' device."""
        module = cls(times, len(gaussians.means)).to(gaussians.means.device)
        module.refresh(gaussians)
        return module

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters with the learning rates at which Adam fits an object of radius about 1."""
        return [
            {"params": list(self.translations), "lr": TRANSLATION_RATE, "name": "translations"},
            {"params": list(self.rotations), "lr": ROTATION_RATE, "name": "rotations"},
        ]

    def gaussian_parameters(self) -> list[nn.Parameter]:
        """All of them."""
        return list(self.parameters())

    def forward(self, gaussians: Gaussians, time: float) -> Gaussians:
        """The Gaussians at `time`; before the first and after the last fitted time they rest."""
        pose = self.pose(time)
        return gaussians._replace(
            means=gaussians.means + pose.translations,
            quats=multiply_quats(pose.quats, gaussians.quats),
        )

    def pose(self, time: float) -> Pose:
        """Displacements of all Gaussians at `time`."""
        return pose_at(self.times, list(self.translations), list(self.rotations), time)

    @torch.no_grad()
    def begin_time(self, index: int, neighbour: int, before: int | None) -> None:
        """Guesses time `index`: the step from `before` to the neighbour goes on from there."""
        guess = self.pose(self.times[neighbour])
        if before is not None:
            guess = continued(self.pose(self.times[before]), guess)
        self.translations[index].copy_(guess.translations)
        self.rotations[index].copy_(guess.quats)

    def regularization(self, gaussians: Gaussians, time: float) -> Tensor:
        """Deviation from a motion that is rigid around each Gaussian and even in time.

        The canonical means are taken as they are: the gradient goes to the motion alone. Neighbours
        are found anew where the number of Gaussians has changed.
        """
        means = gaussians.means.detach()
        if len(means) == 0:
            return means.new_zeros(())
        if len(self.neighbours) != len(means):
            self.refresh(gaussians)
        return self.rigidity * self._bending(means, time) + self.smoothness * self._unevenness(
            means, time
        )

    def refresh(self, gaussians: Gaussians) -> None:
        """Finds the k nearest neighbours of each Gaussian in the canonical state."""
        points = gaussians.means.detach().cpu().numpy()
        k = max(0, min(NEIGHBOURS, len(points) - 1))
        indices = torch.empty(len(points), 0, dtype=torch.long)
        if k > 0:
            nearest = np.asarray(KDTree(points).query(points, k=k + 1)[1])
            indices = torch.from_numpy(nearest[:, 1:])  # the first is the point itself
        self.neighbours = indices.to(gaussians.means.device)

    def _bending(self, means: Tensor, time: float) -> Tensor:
        if self.neighbours.numel() == 0:
            return means.new_zeros(())
        d, quats = self.pose(time)
        edges = means[self.neighbours] - means[:, None]  # [N, k, 3]
        carried = d.index_select(0, self.neighbours.flatten()).reshape(edges.shape)
        moved = edges + carried - d[:, None]
        turned = edges @ quats_to_matrices(quats).transpose(1, 2)
        length = edges.norm(dim=-1).mean().clamp_min(SMALLEST_LENGTH)
        return (moved - turned).norm(dim=-1).mean() / length

    def _unevenness(self, means: Tensor, time: float) -> Tensor:
        """Distance of three poses in a row from even motion; a gradient for the one at `time`.

        Zero as long as one of them has never been moved: frames that join later must not hold the
        others back.
        """
        nearest = min(range(len(self.times)), key=lambda i: abs(self.times[i] - time))
        middle = min(max(nearest, 1), len(self.times) - 2)
        window = range(middle - 1, middle + 2)
        if len(self.times) < 3 or not all(self.translations[i].any() for i in window):
            return means.new_zeros(())
        d0, d1, d2 = (
            self.translations[i] if i == nearest else self.translations[i].detach() for i in window
        )
        t0, t1, t2 = (self.times[i] for i in window)
        even = torch.lerp(d0, d2, (t1 - t0) / (t2 - t0))
        radius = (means - means.mean(dim=0)).norm(dim=-1).mean().clamp_min(SMALLEST_LENGTH)
        return (d1 - even).norm(dim=-1).mean() / radius

    def configuration(self) -> dict[str, Any]:
        """The fitted times and the weights of the regularization."""
        return {
            "times": list(self.times),
            "rigidity": self.rigidity,
            "smoothness": self.smoothness,
        }

    @classmethod
    def from_tensors(
        cls, configuration: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> KeyframeDeformation:
        """The module that was saved; N is read off the tensors.

        Raises:
            SceneError: tensors are missing or of another shape.
        """
        first = tensors.get("translations.0")
        if first is None or first.ndim != 2:
            raise SceneError("tensor 'translations.0' of the motion is missing or not [N, 3]")
        module = cls(**configuration, count=len(first))
        restore_state(module, tensors)
        return module
