"""Rigid poses at the fitted times: interpolation between them and extrapolation to the next.

A body is a Gaussian or a bone. Letters: M bodies, T fitted times, t translations, R (or q)
rotations. Frame: world; the caller defines the point about which a body rotates.
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

DAMPING = 0.8  # of the velocity in an extrapolation


class Pose(NamedTuple):
    """Displacements of M bodies at one time.

    Attributes:
        translations: t, world units, [M, 3].
        quats: R as unit quaternions, wxyz, [M, 4].
    """

    translations: Tensor
    quats: Tensor


def ascending(times: Sequence[float]) -> tuple[float, ...]:
    """Check that times ascend, and return them as numbers.

    Raises:
        ValueError: there are no times, or they do not ascend.
    """
    numbers = tuple(float(time) for time in times)
    if not numbers or not all(a < b for a, b in itertools.pairwise(numbers)):
        raise ValueError(f"expected ascending times, at least one, found {numbers}")
    return numbers


def bracket(times: Sequence[float], time: float) -> tuple[int, float]:
    """Locate a time among ascending times.

    Returns:
        An index i and a weight w in [0, 1) with time = (1 − w) times[i] + w times[i + 1]; times
        outside the range are clamped to it.
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
    """Interpolate poses: linear in t, and in q along the shorter arc, normalized.

    Args:
        times: fitted times, ascending, T of them.
        translations: t at each of them, [M, 3].
        rotations: q at each of them, of any nonzero length, [M, 4].
        time: any time; it is clamped to the range of `times`.

    Returns:
        The pose; at a fitted time it depends on the tensors of that time alone.
    """
    left, weight = bracket(times, time)
    t, q = translations[left], F.normalize(rotations[left], dim=-1)
    if weight > 0:
        following = align_quats(F.normalize(rotations[left + 1], dim=-1), q)
        t = torch.lerp(t, translations[left + 1], weight)
        q = F.normalize(torch.lerp(q, following, weight), dim=-1)
    return Pose(t, q)


def continued(before: Pose, last: Pose) -> Pose:
    """Extrapolate the pose after `last` by repeating the last step, damped by `DAMPING`."""
    turn = multiply_quats(last.quats, invert_quats(before.quats))
    identity = turn.new_tensor([1.0, 0.0, 0.0, 0.0])
    turn = F.normalize(torch.lerp(identity, align_quats(turn, identity), DAMPING), dim=-1)
    step = last.translations - before.translations
    return Pose(last.translations + DAMPING * step, multiply_quats(turn, last.quats))


def align_quats(quats: Tensor, towards: Tensor) -> Tensor:
    """Flip the signs of quaternions to be near `towards`, [..., 4] each, broadcast."""
    return torch.where((quats * towards).sum(-1, keepdim=True) < 0, -quats, quats)
