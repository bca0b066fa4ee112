"""Bones: every Gaussian follows a few rigid motions, blended with weights of its own.

Linear blend skinning without a skeleton. K bones, each with a rotation and a translation at every
fitted time, move all Gaussians; the weights say who follows whom. 21 times of 24 bones are some
thousand numbers, so the motion is well determined by few images, and evaluating it costs two small
matrix products.

    x' = Σ_k w_k (R_k (x − c_k) + c_k + t_k),   q' = normalised(Σ_k w_k q_k) q

Letters: N Gaussians, K bones, T fitted times; w weights (softmax, so they sum to 1), c centres of
the bones, R, q their rotations and t translations. Frame: world.
What it does not know: that colours which depend on the view would turn as well; they stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recon.deformation.bone_blending import blend_bones
from recon.deformation.interface import Deformation
from recon.deformation.poses import Pose, align_quats, ascending, continued, pose_at
from recon.deformation.state import restore_state
from recon.errors import SceneError
from recon.gaussians import Gaussians
from recon.rotations import quats_to_matrices

BONES = 24
NEIGHBOURS = 4  # of a bone, kept together
RIGIDITY = 0.03
WEIGHT_REACH = 0.1  # in units of the object's radius: how far a bone's first weights reach
WEIGHT_RATE, MOTION_RATE = 2e-2, 3e-3


class BoneDeformation(Deformation):
    """Rigid motions of K bones at the fitted times, and the weights of the Gaussians.

    Args:
        times: of the fitted images, ascending, T ≥ 1 of them.
        centres: of the bones in the canonical state, [K, 3].
        logits: of the weights, [N, K].
        rigidity: weight of the gaps between neighbouring bones in `regularization`, per world unit.
    """

    name: ClassVar[str] = "bones"
    centres: Tensor
    neighbours: Tensor

    def __init__(
        self, times: Sequence[float], centres: Tensor, logits: Tensor, rigidity: float = RIGIDITY
    ):
        super().__init__()
        self.times = ascending(times)
        self.rigidity = rigidity
        bones = len(centres)
        nearest = torch.cdist(centres, centres).argsort(dim=1, stable=True)
        self.register_buffer("neighbours", nearest[:, 1 : 1 + NEIGHBOURS], persistent=False)
        identity = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(bones, 1)
        self.register_buffer("centres", centres.clone())
        self.logits = nn.Parameter(logits.clone())
        self.translations = nn.ParameterList(torch.zeros(bones, 3) for _ in self.times)
        self.rotations = nn.ParameterList(identity.clone() for _ in self.times)

    @classmethod
    def for_fit(
        cls, gaussians: Gaussians, times: Sequence[float], bones: int = BONES
    ) -> BoneDeformation:
        """At rest, with bones spread over the Gaussians and weights that fall off with distance."""
        means = gaussians.means.detach()
        centres = cluster_centres(means, min(bones, len(means)))
        radius = (means - means.mean(dim=0)).norm(dim=-1).max().clamp_min(1e-6)
        logits = -(torch.cdist(means, centres) ** 2) / (2 * (WEIGHT_REACH * radius) ** 2)
        logits = (logits - logits.max(dim=1, keepdim=True).values).clamp_min(-20)
        return cls(times, centres, logits).to(means.device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters with the learning rates at which Adam fits an object of radius about 1."""
        groups: list[dict[str, Any]] = [
            {"params": [self.logits], "lr": WEIGHT_RATE, "name": "weights"}
        ]
        groups += [
            {"params": [rotation, translation], "lr": MOTION_RATE, "name": "motion", "time": index}
            for index, (rotation, translation) in enumerate(
                zip(self.rotations, self.translations, strict=True)
            )
        ]
        return groups

    def gaussian_parameters(self) -> list[nn.Parameter]:
        """The logits of the weights."""
        return [self.logits]

    def forward(self, gaussians: Gaussians, time: float) -> Gaussians:
        """The Gaussians at `time`; before the first and after the last fitted time they rest."""
        translations, quats = self.pose(time)
        quats = align_quats(quats, quats[:1])  # so that they can be averaged
        rotations = quats_to_matrices(quats)
        offsets = self.centres + translations - (rotations @ self.centres[..., None])[..., 0]
        motions = torch.cat([rotations.flatten(1), offsets, quats], dim=1)
        means, quats = blend_bones(self.logits, motions, gaussians.means, gaussians.quats)
        return gaussians._replace(means=means, quats=quats)

    def pose(self, time: float) -> Pose:
        """The motions of the K bones at `time`, about their centres."""
        return pose_at(self.times, self.translations, self.rotations, time)

    @torch.no_grad()
    def begin_time(self, index: int, neighbour: int, before: int | None) -> None:
        """Guesses time `index`: the bones move on as from `before` to `neighbour`."""
        guess = self.pose(self.times[neighbour])
        if before is not None:
            guess = continued(self.pose(self.times[before]), guess)
        self.translations[index].copy_(guess.translations)
        self.rotations[index].copy_(guess.quats)

    def regularization(self, gaussians: Gaussians, time: float) -> Tensor:
        """How far neighbouring bones tear apart: each predicts where its neighbours' centres go.

        The term of embedded deformation (Sumner et al. 2007, eq. 7), with norms instead of squares
        so that a joint may bend.
        """
        if len(self.centres) < 2:
            return self.centres.new_zeros(())
        translations, quats = self.pose(time)
        moved = self.centres + translations
        edges = self.centres[self.neighbours] - self.centres[:, None]  # [K, k, 3]
        predicted = moved[:, None] + edges @ quats_to_matrices(quats).transpose(1, 2)
        gaps = (predicted - moved[self.neighbours]).square().sum(-1)
        return self.rigidity * (gaps + 1e-8).sqrt().mean()

    def configuration(self) -> dict[str, Any]:
        """The fitted times and the weight of the regularization."""
        return {"times": list(self.times), "rigidity": self.rigidity}

    @classmethod
    def from_tensors(
        cls, configuration: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> BoneDeformation:
        """The module that was saved; N and K are read off the tensors.

        Raises:
            SceneError: tensors are missing or of another shape.
        """
        centres, logits = tensors.get("centres"), tensors.get("logits")
        if centres is None or logits is None:
            raise SceneError("tensors 'centres' and 'logits' of the bones are missing")
        if centres.shape[1:] != (3,) or logits.shape[1:] != centres.shape[:1] or not len(centres):
            raise SceneError(
                "expected 'centres' [K, 3] and 'logits' [N, K] of the bones, found shapes "
                f"{tuple(centres.shape)} and {tuple(logits.shape)}"
            )
        module = cls(**configuration, centres=centres.float(), logits=logits.float())
        restore_state(module, tensors)
        return module


def cluster_centres(points: Tensor, count: int, rounds: int = 10) -> Tensor:
    """Centres of `count` clusters, [K, 3]: farthest points first, then Lloyd's rounds.

    The same points give the same centres: nothing is drawn at random.
    """
    chosen = [(points - points.mean(dim=0)).norm(dim=-1).argmin()]
    distance = (points - points[chosen[0]]).norm(dim=-1)
    while len(chosen) < count:
        chosen.append(distance.argmax())
        distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=-1))
    centres = points[torch.stack(chosen)]
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        members = torch.bincount(nearest, minlength=count).to(points)[:, None]
        centres = torch.where(members > 0, sums / members.clamp_min(1), centres)
    return centres
