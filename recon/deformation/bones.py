"""Bones: every Gaussian follows a few rigid motions, blended with its own weights.

Linear blend skinning without a skeleton. K bones, each with a rotation and a translation at every
fitted time, move all Gaussians. 24 bones at 21 times have a few thousand parameters, so few images
determine the motion well, and evaluating it takes two small matrix products.

    w = softmax(logits),  x' = Σ_k w_k (R_k (x − c_k) + c_k + t_k),  q' = normalized(Σ_k w_k q_k) q

Letters: N Gaussians, K bones, T fitted times; c centers of the bones, R and q their rotations, t
their translations. Frame: world. View-dependent colors are not rotated.

The numbers are in `recon.deformation.skinning`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.deformation.interface import Deformation, restore_state
from recon.deformation.poses import Pose, ascending, bracket, continued, pose_at
from recon.deformation.skinning import blend_bones, bone_motions, neighbor_gap
from recon.errors import SceneError
from recon.gaussians import Gaussians
from recon.rotations import matrices_to_quats, multiply_quats, rigid_motion

BONES = 24
NEIGHBORS = 4  # nearest bones to which the regularization ties a bone
RIGIDITY = 0.03
WEIGHT_REACH = 0.1  # standard deviation of a bone's first weights, relative to the object's radius
WEIGHT_RATE, MOTION_RATE = 2e-2, 3e-3
FOLLOWED_SHARE = 0.5  # of the weights of a bone


class BoneDeformation(Deformation):
    """Rigid motions of K bones at the fitted times, and the skinning weights of the Gaussians.

    Args:
        times: fitted times, ascending, T ≥ 1 of them.
        centres: centers of the bones in the canonical state, [K, 3]; spelled as in saved scenes.
        logits: logits of the skinning weights, [N, K].
        rigidity: weight of the gaps between neighboring bones in `regularization`, per world unit.
    """

    name: ClassVar[str] = "bones"
    centres: Tensor
    neighbors: Tensor

    def __init__(
        self, times: Sequence[float], centres: Tensor, logits: Tensor, rigidity: float = RIGIDITY
    ):
        super().__init__()
        self.times = ascending(times)
        self.rigidity = rigidity
        bones = len(centres)
        nearest = torch.cdist(centres, centres).argsort(dim=1, stable=True)
        self.register_buffer("neighbors", nearest[:, 1 : 1 + NEIGHBORS], persistent=False)
        identity = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(bones, 1)
        self.register_buffer("centres", centres.clone())
        self.logits = nn.Parameter(logits.clone())
        self.translations = nn.ParameterList(torch.zeros(bones, 3) for _ in self.times)
        self.rotations = nn.ParameterList(identity.clone() for _ in self.times)

    @classmethod
    def for_fit(
        cls, gaussians: Gaussians, times: Sequence[float], bones: int = BONES
    ) -> BoneDeformation:
        """Spread bones at rest over the Gaussians, with weights that fall off with distance."""
        means = gaussians.means.detach()
        centers = cluster_centers(means, min(bones, len(means)))
        radius = (means - means.mean(dim=0)).norm(dim=-1).max().clamp_min(1e-6)
        logits = -(torch.cdist(means, centers) ** 2) / (2 * (WEIGHT_REACH * radius) ** 2)
        logits = (logits - logits.max(dim=1, keepdim=True).values).clamp_min(-20)
        return cls(times, centers, logits).to(means.device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See `Deformation.parameter_groups`: the weights, and a group for each time."""
        groups: list[dict[str, Any]] = [
            {"params": [self.logits], "lr": WEIGHT_RATE, "name": "weights", "canonical": True}
        ]
        groups += [
            {"params": [rotation, translation], "lr": MOTION_RATE, "name": "motion", "time": index}
            for index, (rotation, translation) in enumerate(
                zip(self.rotations, self.translations, strict=True)
            )
        ]
        return groups

    def gaussian_parameters(self) -> list[nn.Parameter]:
        """Return the logits of the skinning weights."""
        return [self.logits]

    def forward(self, gaussians: Gaussians, time: float) -> Gaussians:
        """Move the Gaussians to `time`, which is clamped to the range of the fitted times."""
        motions = bone_motions(self.centres, *self._parameters_at(time))
        means, quats = blend_bones(self.logits, motions, gaussians.means, gaussians.quats)
        return gaussians._replace(means=means, quats=quats)

    def pose(self, time: float) -> Pose:
        """Return the motions of the K bones at `time`, about their centers."""
        return pose_at(self.times, self.translations, self.rotations, time)

    def _parameters_at(self, time: float) -> Pose:
        """Return the pose at `time`, with quaternions of any length."""
        index, weight = bracket(self.times, time)
        if weight > 0:
            return self.pose(time)
        return Pose(self.translations[index], self.rotations[index])

    @torch.no_grad()
    def begin_time(self, index: int, neighbor: int, before: int | None) -> None:
        """Initialize time `index`: the bones continue their motion from `before` to `neighbor`."""
        guess = self.pose(self.times[neighbor])
        if before is not None:
            guess = continued(self.pose(self.times[before]), guess)
        self.translations[index].copy_(guess.translations)
        self.rotations[index].copy_(guess.quats)

    @torch.no_grad()
    def attract(self, index: int, gaussians: Gaussians, targets: Tensor) -> None:
        """See `Deformation.attract`: bones follow if most of what they move has a target."""
        moved = self(gaussians, self.times[index]).means
        weights = F.softmax(self.logits, dim=1) * gaussians.opacities.sigmoid()[:, None]
        wanted = ~targets.isnan().any(dim=1)
        followed = weights[wanted].sum(0) / weights.sum(0).clamp_min(1e-12)
        translations, quats = self.pose(self.times[index])
        for bone in (followed > FOLLOWED_SHARE).nonzero()[:, 0].tolist():
            turn, offset = rigid_motion(moved[wanted], targets[wanted], weights[wanted, bone])
            center = self.centres[bone]
            placed = turn @ (center + translations[bone]) + offset
            self.translations[index][bone] = placed - center
            self.rotations[index][bone] = multiply_quats(matrices_to_quats(turn), quats[bone])

    def regularization(self, gaussians: Gaussians, time: float) -> Tensor:
        """Return the mean gap between neighboring bones, a scalar.

        Each bone predicts where the centers of its neighbors go. This is the term of embedded
        deformation (Sumner et al. 2007, eq. 7) with norms instead of squares, so that a joint may
        bend.
        """
        if len(self.centres) < 2:
            return self.centres.new_zeros(())
        gap = neighbor_gap(self.centres, *self._parameters_at(time), self.neighbors)
        return self.rigidity * gap

    @torch.no_grad()
    def change_world(self, scale: float, offset: Tensor) -> None:
        """See `Deformation.change_world`."""
        moved = scale * self.centres.double() + offset.to(self.centres.device)
        self.centres.copy_(moved)
        for translation in self.translations:
            translation.mul_(scale)
        self.rigidity /= scale

    def configuration(self) -> dict[str, Any]:
        """Return the fitted times and the weight of the regularization."""
        return {"times": list(self.times), "rigidity": self.rigidity}

    @classmethod
    def from_tensors(
        cls, configuration: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> BoneDeformation:
        """See `Deformation.from_tensors`; N and K follow from the shapes."""
        centers, logits = tensors.get("centres"), tensors.get("logits")
        if centers is None or logits is None:
            raise SceneError("tensors 'centres' and 'logits' of the bones are missing")
        if centers.shape[1:] != (3,) or logits.shape[1:] != centers.shape[:1] or not len(centers):
            raise SceneError(
                "expected 'centres' [K, 3] and 'logits' [N, K] of the bones, found shapes "
                f"{tuple(centers.shape)} and {tuple(logits.shape)}"
            )
        module = cls(**configuration, centres=centers.float(), logits=logits.float())
        restore_state(module, tensors)
        return module


def cluster_centers(points: Tensor, count: int, rounds: int = 10) -> Tensor:
    """Find the centers of `count` clusters by k-means from farthest-point seeds.

    The result is deterministic.

    Args:
        points: [N, 3] with N ≥ count.
        count: number of clusters, K.
        rounds: iterations of Lloyd's algorithm.

    Returns:
        Centers, [K, 3].
    """
    chosen = [(points - points.mean(dim=0)).norm(dim=-1).argmin()]
    distance = (points - points[chosen[0]]).norm(dim=-1)
    while len(chosen) < count:
        chosen.append(distance.argmax())
        distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=-1))
    centers = points[torch.stack(chosen)]
    for _ in range(rounds):
        nearest = torch.cdist(points, centers).argmin(dim=1)
        sums = torch.zeros_like(centers).index_add_(0, nearest, points)
        members = torch.bincount(nearest, minlength=count).to(points)[:, None]
        centers = torch.where(members > 0, sums / members.clamp_min(1), centers)
    return centers
