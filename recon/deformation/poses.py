"""Poses of bodies at the fitted times, between them, and a guess of the next.

A body is whatever has a motion of its own: a Gaussian, a bone.
Letters: M bodies, T fitted times, t translations, R (or q) rotations. Frame: world.
What it does not know: about which point a body turns.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.rotations import invert_quats, multiply_quats

DAMPING = 0.8  # of the velocity with which a motion is thought to go on


class Pose(NamedTuple):
    """The displacement of M bodies at one time.

    Attributes:
        translations: t, world units, [M, 3].
        quats: R as unit quaternions, wxyz, [M, 4].
    """

    translations: Tensor
    quats: Tensor


def ascending(times: Sequence[float]) -> tuple[float, ...]:
    """The times as numbers.

    Raises:
        ValueError: there are none, or they do not ascend.
    """
    numbers = tuple(float(time) for time in times)
    if not numbers or not all(a < b for a, b in itertools.pairwise(numbers)):
        raise ValueError(f"expected ascending times, at least one, found {numbers}")
    return numbers


def bracket(times: Sequence[float], time: float) -> tuple[int, float]:
    """Where a time lies among ascending times.

    Returns:
        An index i and a weight w in [0, 1) with time = (1 − w) times[i] + w times[i + 1]; a time
        outside of all is taken to the nearer end.
    """
    left = min(max(bisect.bisect_right(times, time) - 1, 0), len(times) - 1)
    if left == len(times) - 1 or time <= times[left]:
        return left, 0.0
    return left, (time - times[left]) / (times[left + 1] - times[left])


def pose_at(
    times: Sequence[float],
    translations: Sequence[Tensor] | nn.ParameterList,
    rotations: Sequence[Tensor] | nn.ParameterList,
    time: float,
) -> Pose:
    """The pose at `time`: linear in t, and in q along the shorter arc, normalised.

    Args:
        times: fitted ones, ascending, T of them.
        translations: at each of them, [M, 3].
        rotations: at each of them as quaternions of any length but 0, [M, 4].
        time: outside of `times` the bodies rest.

    Returns:
        The pose; at a fitted time it depends on that time's tensors alone.
    """
    left, weight = bracket(times, time)
    t, q = translations[left], F.normalize(rotations[left], dim=-1)
    if weight > 0:
        following = align_quats(F.normalize(rotations[left + 1], dim=-1), q)
        t = torch.lerp(t, translations[left + 1], weight)
        q = F.normalize(torch.lerp(q, following, weight), dim=-1)
    return Pose(t, q)


def continued(before: Pose, last: Pose) -> Pose:
    """A guess of the pose after `last`: the same step again, `DAMPING` times as large."""
    turn = multiply_quats(last.quats, invert_quats(before.quats))
    identity = turn.new_tensor([1.0, 0.0, 0.0, 0.0])
    turn = F.normalize(torch.lerp(identity, align_quats(turn, identity), DAMPING), dim=-1)
    step = last.translations - before.translations
    return Pose(last.translations + DAMPING * step, multiply_quats(turn, last.quats))


def align_quats(quats: Tensor, towards: Tensor) -> Tensor:
    """The same rotations with the signs that are nearer to `towards`, [..., 4] each, broadcast."""
    return torch.where((quats * towards).sum(-1, keepdim=True) < 0, -quats, quats)
