"""Where Gaussians go while they are fitted: moved from where they do nothing, or cloned and pruned.

Policies are frozen dataclasses of thresholds; mechanics are functions that keep parameters and the
optimiser's state in step. `Relocation` keeps their number and moves dead ones, as 3D Gaussian
splatting as Markov chain Monte Carlo does (Kheradmand et al. 2024); `GrowAndPrune` is the adaptive
density control of 3D Gaussian splatting (Kerbl et al. 2023) with gsplat's thresholds.

Letters: N Gaussians; "rows" are the first axis of all parameters that belong to single Gaussians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recon.gaussians import Gaussians
from recon.rotations import quats_to_matrices

LARGEST_RATIO = (
    51  # copies of one Gaussian in one relocation beyond which the formula is not evaluated
)


@dataclass(frozen=True)
class Relocation:
    """Dead Gaussians are moved onto live ones; the number grows to its cap.

    Attributes:
        every: iterations between two rounds.
        stop_after: fraction of the fit after which nothing is moved.
        dead_opacity: below it a Gaussian is dead.
        growth: factor by which the number grows in each round until the cap.
    """

    every: int = 100
    stop_after: float = 0.85
    dead_opacity: float = 0.02
    growth: float = 1.15


@dataclass(frozen=True)
class GrowAndPrune:
    """Gaussians with a large image gradient are cloned or split, transparent ones pruned.

    Attributes:
        every: iterations between two rounds.
        stop_after: fraction of the fit after which nothing changes.
        dead_opacity: below it a Gaussian is pruned.
        gradient: mean norm of the loss's gradient by the projected centre, in units of half images,
            above which a Gaussian is duplicated.
        small: largest standard deviation, as a fraction of the object's radius, of a Gaussian that
            is cloned; larger ones are split in two.
    """

    every: int = 100
    stop_after: float = 0.6
    dead_opacity: float = 0.02
    gradient: float = 2e-4
    small: float = 0.01


@torch.no_grad()
def reindex(
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    rows: Tensor,
    fresh: Tensor,
) -> None:
    """Row i of each parameter becomes its former row `rows[i]`; Adam's moments follow.

    Args:
        parameters: all that have one row for each Gaussian; they stay the same objects.
        optimizer: holds them.
        rows: former indices, of any number, [N'].
        fresh: which of the new rows start with zero moments, [N'].
    """
    for parameter in parameters:
        state = optimizer.state.get(parameter, {})
        parameter.data = parameter.data[rows]
        parameter.grad = None
        for key in ("exp_avg", "exp_avg_sq"):
            if key in state:
                state[key] = state[key][rows]
                state[key][fresh] = 0


@torch.no_grad()
def relocation_plan(
    opacities: Tensor, policy: Relocation, cap: int, generator: torch.Generator
) -> Tensor:
    """Which Gaussian each row shall be taken from, [N'] with N' ≥ N.

    Dead rows, and new rows up to the cap, take a live one with probability proportional to opacity;
    live rows stay themselves.
    """
    count = len(opacities)
    alpha = opacities.sigmoid()
    alive = (alpha > policy.dead_opacity).nonzero()[:, 0]
    rows = torch.arange(max(count, min(cap, math.ceil(count * policy.growth))))
    if len(alive) == 0:
        return rows[:count]
    wanted = torch.cat([(alpha <= policy.dead_opacity).nonzero()[:, 0].cpu(), rows[count:]])
    if len(wanted):
        draws = torch.multinomial(
            alpha[alive].cpu(), len(wanted), replacement=True, generator=generator
        )
        rows[wanted] = alive.cpu()[draws]
    return rows.to(opacities.device)


@torch.no_grad()
def share_opacity(gaussians: Gaussians, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Opacities and scales with which copies look like the one Gaussian that they were.

    Kheradmand et al. 2024, eq. 9: with n of them in one place, 1 − (1 − o')^n = o, and the scales
    keep the integral along a ray through the centre.

    Args:
        gaussians: before the rows are taken.
        rows: as of `relocation_plan`.

    Returns:
        Logit opacities [N'] and logarithmic scales [N', 3] of the new rows.
    """
    copies = torch.bincount(rows, minlength=len(gaussians.means)).clamp(max=LARGEST_RATIO)
    opacity = gaussians.opacities.sigmoid().clamp(max=1 - 1e-6)
    shared = 1 - (1 - opacity) ** (1 / copies.clamp_min(1))
    integral = torch.zeros_like(opacity, dtype=torch.float64)
    for i in range(1, int(copies.max()) + 1):
        active = (copies >= i).double()
        for k in range(i):
            term = math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1)
            integral += active * term * shared.double() ** (k + 1)
    factor = (opacity / integral.clamp_min(1e-12)).to(opacity)
    several = copies > 1
    logits = torch.where(several, torch.logit(shared.clamp(5e-3, 1 - 1e-6)), gaussians.opacities)
    scales = gaussians.scales + torch.where(several, factor.log(), 0)[:, None]
    return logits[rows], scales[rows]


@torch.no_grad()
def density_plan(
    gaussians: Gaussians, gradients: Tensor, policy: GrowAndPrune, radius: float, cap: int
) -> tuple[Tensor, Tensor]:
    """Which Gaussian each row shall be taken from, and which rows are halves of a split one.

    Args:
        gaussians: N of them.
        gradients: mean norm of the gradient by the projected centre, half images, [N].
        policy: thresholds.
        radius: of the object in world units.
        cap: largest number of Gaussians; those with the largest gradients go first.

    Returns:
        Rows [N'] and a mask [N'] of the halves.
    """
    opacity, extent = gaussians.opacities.sigmoid(), gaussians.scales.exp().amax(dim=1)
    kept = opacity > policy.dead_opacity
    duplicated = kept & (gradients > policy.gradient)
    room = max(0, cap - int(kept.sum()))
    if int(duplicated.sum()) > room:
        order = torch.where(duplicated, gradients, -1).argsort(descending=True, stable=True)
        duplicated = torch.zeros_like(duplicated).index_fill_(0, order[:room], True)
    rows = torch.cat([kept.nonzero()[:, 0], duplicated.nonzero()[:, 0]])
    return rows, (duplicated & (extent > policy.small * radius))[rows]


@torch.no_grad()
def split(
    gaussians: Gaussians, halves: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Means and logarithmic scales after the rows in `halves` were drawn from their own density.

    Their scales shrink by 1.6, as in 3D Gaussian splatting.
    """
    noise = torch.randn(gaussians.means.shape, generator=generator).to(gaussians.means)
    offsets = quats_to_matrices(gaussians.quats) @ (gaussians.scales.exp() * noise)[..., None]
    means = torch.where(halves[:, None], gaussians.means + offsets[..., 0], gaussians.means)
    scales = torch.where(halves[:, None], gaussians.scales - math.log(1.6), gaussians.scales)
    return means, scales
