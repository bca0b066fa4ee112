"""The loss of `lift`: predicted layers against the true ones, pixel by pixel.

Letters: B samples, S pixels on a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from generation.lift.network import YAW_BINS, LiftPrediction, every_second
from generation.surface_layers import BACK, FIRST_EXIT, FRONT, LAST_ENTRY

REACH, DEPTHS, SOFTNESS = 0.9, 32, 0.03  # of the points along the rays


class LiftTarget(NamedTuple):
    """True layers of a batch.

    Attributes:
        depth: depths of the layers minus the camera's distance, [B, 4, S, S].
        gap: whether the ray meets two parts, bool, [B, S, S].
        color: sRGB in [0, 1] of first exit, last entry and back, [B, 3, 3, S, S].
        mask: whether the ray meets the object, bool, [B, S, S].
        yaw: yaw in radians, NaN where there is none, [B].
    """

    depth: Tensor
    gap: Tensor
    color: Tensor
    mask: Tensor
    yaw: Tensor

    def every_second(self, phase: tuple[int, int]) -> LiftTarget:
        """Return every second row and column from a phase on."""
        depth, gap, color, mask = (every_second(part, phase) for part in self[:-1])
        return LiftTarget(depth, gap, color, mask, self.yaw)


@dataclass(frozen=True)
class LiftWeights:
    """Weights of the terms of the loss.

    Attributes:
        depth: absolute errors of the depths.
        slope: absolute errors of the differences of neighboring depths, at most 0.2 each.
        volume: 1 minus the Dice coefficient of the volumes.
        gap: binary cross-entropy of the gap.
        color: absolute errors of the hidden colors.
        yaw: cross-entropy of the yaw.
        silhouette: overlap of the silhouettes seen from elsewhere, see `lift_views.view_errors`.
        appearance: absolute errors of the colors seen from there.
    """

    depth: float = 4.0
    slope: float = 5.0
    volume: float = 0.5
    gap: float = 0.25
    color: float = 3.0
    yaw: float = 0.4
    silhouette: float = 2.5
    appearance: float = 2.0

    @property
    def need_views(self) -> bool:
        """Whether views from elsewhere are compared."""
        return self.silhouette > 0 or self.appearance > 0


def lift_loss(
    prediction: LiftPrediction, target: LiftTarget, yaw_weight: Tensor, weights: LiftWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the loss and its terms, each [].

    Args:
        prediction: the prediction.
        target: the truth.
        yaw_weight: 1 where there is a yaw, which was not given to the network, else 0, [B].
        weights: weights of the terms.
    """
    error = (prediction.depth - target.depth).abs()
    outer, inner = error[:, [FRONT, BACK]], error[:, [FIRST_EXIT, LAST_ENTRY]]
    gap = target.gap & target.mask
    count = target.mask.sum().clamp_min(1)
    terms = {
        "depth": ((outer.mean(1) * target.mask).sum() + (inner.mean(1) * gap).sum()) / count,
        "slope": _slope(prediction.depth, target.depth, target.mask),
        "volume": _volume(prediction, target),
        "gap": _mean(_binary(prediction.gap, target.gap.float()), target.mask),
        "color": _color(prediction.color, target.color, target.mask, gap),
        "yaw": _mean(yaw_loss(prediction.yaw, target.yaw.nan_to_num()), yaw_weight),
    }
    return weighted(terms, weights)


def weighted(terms: dict[str, Tensor], weights: LiftWeights) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of terms, [], and the terms without their gradients."""
    loss = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
    return loss, {name: term.detach() for name, term in terms.items()}


def yaw_loss(logits: Tensor, yaw: Tensor) -> Tensor:
    """Compute the cross-entropy with the two bins nearest to the yaw, [B].

    Args:
        logits: [B, YAW_BINS]; bin k is centered at 2π k / YAW_BINS.
        yaw: radians, [B].
    """
    place = torch.remainder(yaw / (2 * math.pi) * YAW_BINS, YAW_BINS)
    low = place.floor().long() % YAW_BINS
    share = place - place.floor()
    logs = logits.log_softmax(1)
    first = logs.gather(1, low[:, None])[:, 0]
    second = logs.gather(1, ((low + 1) % YAW_BINS)[:, None])[:, 0]
    return -((1 - share) * first + share * second)


def occupancy(depth: Tensor, gap: Tensor, softness: float = SOFTNESS) -> Tensor:
    """Compute how far points along the rays are inside, in [0, 1], [B, DEPTHS, ...].

    Args:
        depth: depths of the layers minus the camera's distance, [B, 4, ...].
        gap: probability that the ray meets two parts, [B, ...].
        softness: width of the transition at a surface.
    """
    ends = torch.linspace(-REACH, REACH, DEPTHS, device=depth.device)
    points = ends.view(1, -1, *[1] * (depth.ndim - 2))
    past = [torch.sigmoid((points - depth[:, k, None]) / softness) for k in range(4)]
    between = gap[:, None] * past[FIRST_EXIT] * (1 - past[LAST_ENTRY])
    return past[FRONT] * (1 - past[BACK]) * (1 - between)


def _volume(prediction: LiftPrediction, target: LiftTarget) -> Tensor:
    """Compute 1 minus the Dice coefficient of the volumes."""
    mask = target.mask[:, None]
    found = occupancy(prediction.depth, prediction.gap.sigmoid()) * mask
    true = occupancy(target.depth, target.gap.float()) * mask
    both = (found * true).flatten(1).sum(1)
    return (1 - 2 * both / (found + true).flatten(1).sum(1).clamp_min(1e-3)).mean()


def _binary(logit: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logit, target, reduction="none")


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp_min(1)


def _slope(depth: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Compare the differences of neighboring pixels of front and back."""
    error = (depth - target)[:, [FRONT, BACK]]
    total = error.new_zeros(())
    for axis in (1, 2):
        both = mask.narrow(axis, 1, mask.shape[axis] - 1) & mask.narrow(
            axis, 0, mask.shape[axis] - 1
        )
        difference = error.diff(dim=axis + 1).abs().clamp_max(0.2).mean(1)
        total = total + _mean(difference, both)
    return total


def _color(color: Tensor, target: Tensor, mask: Tensor, gap: Tensor) -> Tensor:
    error = (color - target).abs().mean(2)
    inner, back = error[:, :2].mean(1), error[:, 2]
    return ((inner * gap).sum() + (back * mask).sum()) / mask.sum().clamp_min(1)
