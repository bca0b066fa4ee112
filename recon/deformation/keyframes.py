"""Keyframes: every Gaussian has its own translation and rotation at every fitted time.

The most flexible motion model. Only `regularization` couples the Gaussians: it penalizes motion
that is not locally rigid, or not even in time.

Letters: N Gaussians, T fitted times, k neighbors, d translations, R rotations. Frame: world; a
Gaussian is rotated about its own mean, by R after its canonical rotation. View-dependent colors are
not rotated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor, nn

from recon.deformation.interface import Deformation, restore_state
from recon.deformation.poses import Pose, ascending, continued, pose_at
from recon.errors import SceneError
from recon.gaussians import Gaussians
from recon.rotations import multiply_quats, quats_to_matrices

NEIGHBORS = 8
TRANSLATION_RATE = 2e-3
ROTATION_RATE = 4e-3
MIN_LENGTH = 1e-6  # world units, against division by zero


class KeyframeDeformation(Deformation):
    """Poses at the fitted times, linear between them; the identity until it is fitted.

    Each time has its own parameters, so that an optimizer step changes only the times that it
    used. All parameters have one row per Gaussian.

    Args:
        times: fitted times, ascending, T ≥ 1 of them.
        count: N.
        rigidity: weight in `regularization` of the mean deviation of the neighbors from a rigid
            motion, as a fraction of their mean distance.
        smoothness: weight in `regularization` of the mean distance of a translation from even
            motion between the times before and after it, as a fraction of the object's radius.

    Raises:
        ValueError: `times` is empty or does not ascend.
    """

    name: ClassVar[str] = "keyframes"
    neighbors: Tensor

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
        self.register_buffer("neighbors", torch.empty(0, 0, dtype=torch.long), persistent=False)

    @classmethod
    def for_fit(cls, gaussians: Gaussians, times: Sequence[float]) -> KeyframeDeformation:
        """Build a module without motion on the device of the Gaussians."""
        module = cls(times, len(gaussians.means)).to(gaussians.means.device)
        module.refresh(gaussians)
        return module

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See `Deformation.parameter_groups`."""
        return [
            {"params": list(self.translations), "lr": TRANSLATION_RATE, "name": "translations"},
            {"params": list(self.rotations), "lr": ROTATION_RATE, "name": "rotations"},
        ]

    def gaussian_parameters(self) -> list[nn.Parameter]:
        """Return all parameters."""
        return list(self.parameters())

    def forward(self, gaussians: Gaussians, time: float) -> Gaussians:
        """Move the Gaussians to `time`, which is clamped to the range of the fitted times."""
        pose = self.pose(time)
        return gaussians._replace(
            means=gaussians.means + pose.translations,
            quats=multiply_quats(pose.quats, gaussians.quats),
        )

    def pose(self, time: float) -> Pose:
        """Return the displacements of all Gaussians at `time`."""
        return pose_at(self.times, list(self.translations), list(self.rotations), time)

    @torch.no_grad()
    def begin_time(self, index: int, neighbor: int, before: int | None) -> None:
        """Initialize time `index`: the motion from `before` to `neighbor` continues."""
        guess = self.pose(self.times[neighbor])
        if before is not None:
            guess = continued(self.pose(self.times[before]), guess)
        self.translations[index].copy_(guess.translations)
        self.rotations[index].copy_(guess.quats)

    @torch.no_grad()
    def change_world(self, scale: float, offset: Tensor) -> None:
        """See `Deformation.change_world`; translations are relative to the canonical means."""
        for translation in self.translations:
            translation.mul_(scale)

    @torch.no_grad()
    def attract(self, index: int, gaussians: Gaussians, targets: Tensor) -> None:
        """See `Deformation.attract`; rotations stay."""
        wanted = ~targets.isnan().any(dim=1)
        self.translations[index][wanted] = (targets - gaussians.means)[wanted]

    def regularization(self, gaussians: Gaussians, time: float) -> Tensor:
        """Return the deviation from a motion that is locally rigid and even in time, a scalar.

        The gradient goes to the motion alone, not to the canonical means. Neighbors are
        recomputed if the number of Gaussians has changed.
        """
        means = gaussians.means.detach()
        if len(means) == 0:
            return means.new_zeros(())
        if len(self.neighbors) != len(means):
            self.refresh(gaussians)
        return self.rigidity * self._bending(means, time) + self.smoothness * self._unevenness(
            means, time
        )

    def refresh(self, gaussians: Gaussians) -> None:
        """Find the k nearest neighbors of each Gaussian in the canonical state."""
        points = gaussians.means.detach().cpu().numpy()
        k = max(0, min(NEIGHBORS, len(points) - 1))
        indices = torch.empty(len(points), 0, dtype=torch.long)
        if k > 0:
            nearest = np.asarray(KDTree(points).query(points, k=k + 1)[1])
            indices = torch.from_numpy(nearest[:, 1:])  # the first is the point itself
        self.neighbors = indices.to(gaussians.means.device)

    def _bending(self, means: Tensor, time: float) -> Tensor:
        if self.neighbors.numel() == 0:
            return means.new_zeros(())
        d, quats = self.pose(time)
        edges = means[self.neighbors] - means[:, None]  # [N, k, 3]
        carried = d.index_select(0, self.neighbors.flatten()).reshape(edges.shape)
        moved = edges + carried - d[:, None]
        turned = edges @ quats_to_matrices(quats).transpose(1, 2)
        length = edges.norm(dim=-1).mean().clamp_min(MIN_LENGTH)
        return (moved - turned).norm(dim=-1).mean() / length

    def _unevenness(self, means: Tensor, time: float) -> Tensor:
        """Distance of three consecutive poses from even motion; the one at `time` gets gradients.

        It is zero if one of them has not been fitted yet, so that frames that have not joined do
        not restrain the others.
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
        radius = (means - means.mean(dim=0)).norm(dim=-1).mean().clamp_min(MIN_LENGTH)
        return (d1 - even).norm(dim=-1).mean() / radius

    def configuration(self) -> dict[str, Any]:
        """Return the fitted times and the weights of the regularization."""
        return {
            "times": list(self.times),
            "rigidity": self.rigidity,
            "smoothness": self.smoothness,
        }

    @classmethod
    def from_tensors(
        cls, configuration: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> KeyframeDeformation:
        """See `Deformation.from_tensors`; N follows from the shapes."""
        first = tensors.get("translations.0")
        if first is None or first.ndim != 2:
            raise SceneError("tensor 'translations.0' of the motion is missing or not [N, 3]")
        module = cls(**configuration, count=len(first))
        restore_state(module, tensors)
        return module
