"""Densification and pruning of Gaussians during a fit: two policies and their operations.

`Relocation` moves dead Gaussians onto live ones and adds new ones up to a cap, as 3D Gaussian
splatting as Markov chain Monte Carlo (Kheradmand et al. 2024). `GrowAndPrune` is the adaptive
density control of 3D Gaussian splatting (Kerbl et al. 2023) with gsplat's thresholds. A policy is a
frozen dataclass of thresholds whose methods a fit calls after every backward pass; its running
statistics live in a dictionary of tensors that the fit keeps and saves.

Letters: N Gaussians, N' after a step, V views; a row is the part of all per-Gaussian parameters
that belongs to one Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recon.gaussians import Gaussians
from recon.rotations import quats_to_matrices

MAX_COPIES = 51  # of one Gaussian in one relocation; beyond it the formula is not evaluated
SHARED_OPACITY_MIN = 5e-3  # of a copy, as in the code of its authors
SPLIT_SHRINKAGE = 1.6


class GaussianRows(NamedTuple):
    """All parameters with one row per Gaussian, and their moments.

    Attributes:
        canonical: the fields of `Gaussians` by name.
        motion: parameters of the deformation, [N, ...] each.
        moments: `Adam.state` of an optimizer over all of them.
    """

    canonical: dict[str, nn.Parameter]
    motion: Sequence[nn.Parameter]
    moments: Mapping[Tensor, dict[str, Tensor]]

    @property
    def gaussians(self) -> Gaussians:
        """The canonical Gaussians."""
        return Gaussians(**self.canonical)

    def reindex(self, rows: Tensor, fresh: Tensor) -> None:
        """Rearrange the rows of all parameters and their moments, see the function `reindex`."""
        reindex([*self.canonical.values(), *self.motion], self.moments, rows, fresh)

    @torch.no_grad()
    def assign(self, **values: Tensor) -> None:
        """Overwrite canonical parameters by name, keeping their moments."""
        for name, value in values.items():
            self.canonical[name].copy_(value)


class Limits(NamedTuple):
    """Limits of a densification step.

    Attributes:
        max_gaussians: cap on N.
        radius: radius of the object, in the unit of the means.
    """

    max_gaussians: int
    radius: float


@dataclass(frozen=True)
class DensificationPolicy:
    """Interface of the policies, and their common thresholds.

    Attributes:
        every: iterations between two densification steps.
        stop_after: fraction of the fit after which there are no more steps, in [0, 1].
        dead_opacity: opacity below which a Gaussian is dead, in [0, 1].
    """

    every: int = 100
    stop_after: float = 0.85
    dead_opacity: float = 0.02

    def means2d_probe(self, views: int, means: Tensor) -> Tensor | None:
        """Return zeros [V, N, 2] that receive the gradients of the projected means, if needed."""
        return None

    def observe(
        self, statistics: dict[str, Tensor], probe: Tensor | None, height: int, width: int
    ) -> None:
        """Update the running statistics after a backward pass.

        Args:
            statistics: tensors by name on the CPU, empty at first; changed in place.
            probe: the tensor of `means2d_probe` with its gradient.
            height: image height in pixels.
            width: image width in pixels.
        """

    def step(
        self,
        rows: GaussianRows,
        statistics: dict[str, Tensor],
        limits: Limits,
        generator: torch.Generator,
    ) -> None:
        """Add, move and remove Gaussians, in place.

        Args:
            rows: the parameters and their moments.
            statistics: running statistics of `observe`; changed in place.
            limits: limits of the step.
            generator: source of randomness, on the CPU.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Relocation(DensificationPolicy):
    """Relocate dead Gaussians onto live ones, and increase their number up to the cap.

    Attributes:
        growth: factor by which N grows in each step until it reaches the cap.
    """

    growth: float = 1.15

    def step(
        self,
        rows: GaussianRows,
        statistics: dict[str, Tensor],
        limits: Limits,
        generator: torch.Generator,
    ) -> None:
        """See `DensificationPolicy.step`."""
        before = rows.gaussians
        sources = relocation_plan(before.opacities, self, limits.max_gaussians, generator)
        opacities, scales = share_opacity(before, sources)
        copied = torch.bincount(sources, minlength=len(before.means))[sources] > 1
        rows.reindex(sources, fresh=copied)
        rows.assign(opacities=opacities, scales=scales)


@dataclass(frozen=True)
class GrowAndPrune(DensificationPolicy):
    """Clone or split Gaussians with a large image gradient, and prune transparent ones.

    Attributes:
        gradient: mean norm of the loss gradient with respect to the projected mean, in units of
            half images, above which a Gaussian is duplicated.
        small: largest standard deviation of a Gaussian that is cloned, as a fraction of the
            object's radius; larger ones are split in two.
    """

    stop_after: float = 0.6
    gradient: float = 2e-4
    small: float = 0.01

    def means2d_probe(self, views: int, means: Tensor) -> Tensor:
        """See `DensificationPolicy.means2d_probe`."""
        return means.new_zeros(views, len(means), 2, requires_grad=True)

    def observe(
        self, statistics: dict[str, Tensor], probe: Tensor | None, height: int, width: int
    ) -> None:
        """Add gradient norms and the number of views that see each Gaussian to the statistics."""
        assert probe is not None and probe.grad is not None
        views, count, _ = probe.shape
        half_images = probe.new_tensor([width, height]) / 2 * views
        norms = (probe.grad * half_images).norm(dim=-1).cpu()
        for name, values in (("gradient_norm", norms), ("view_count", (norms > 0).float())):
            total = statistics.get(name, torch.zeros(0))
            total = total if len(total) == count else torch.zeros(count)
            statistics[name] = total + values.sum(0)

    def step(
        self,
        rows: GaussianRows,
        statistics: dict[str, Tensor],
        limits: Limits,
        generator: torch.Generator,
    ) -> None:
        """See `DensificationPolicy.step`."""
        gradients = statistics["gradient_norm"] / statistics["view_count"].clamp_min(1)
        gradients = gradients.to(rows.gaussians.means.device)
        sources, halves = density_plan(rows.gaussians, gradients, self, limits)
        rows.reindex(sources, fresh=halves)
        means, scales = split(rows.gaussians, halves, generator)
        rows.assign(means=means, scales=scales)
        statistics.clear()


@torch.no_grad()
def reindex(
    parameters: Sequence[nn.Parameter],
    moments: Mapping[Tensor, dict[str, Tensor]],
    rows: Tensor,
    fresh: Tensor,
) -> None:
    """Set row i of each parameter and of its Adam moments to the old row `rows[i]`.

    Args:
        parameters: all parameters with one row per Gaussian; they stay the same objects.
        moments: `Adam.state` of an optimizer over them.
        rows: indices of old rows, [N']; N' may differ from N.
        fresh: whether a new row starts with zero moments, bool, [N'].
    """
    for parameter in parameters:
        state = moments.get(parameter, {})
        parameter.data = parameter.data[rows]
        parameter.grad = None
        for key in ("exp_avg", "exp_avg_sq"):
            if key in state:
                state[key] = state[key][rows]
                state[key][fresh] = 0


@torch.no_grad()
def relocation_plan(
    opacities: Tensor, policy: Relocation, max_gaussians: int, generator: torch.Generator
) -> Tensor:
    """Choose the old row from which each new row is copied, [N'] with N' ≥ N.

    Dead rows, and new rows up to the cap, become copies of live ones, which are sampled in
    proportion to their opacity; live rows are unchanged.
    """
    count = len(opacities)
    alpha = opacities.sigmoid()
    alive = (alpha > policy.dead_opacity).nonzero()[:, 0]
    rows = torch.arange(max(count, min(max_gaussians, math.ceil(count * policy.growth))))
    if len(alive) == 0:
        return rows[:count]
    replaced = torch.cat([(alpha <= policy.dead_opacity).nonzero()[:, 0].cpu(), rows[count:]])
    if len(replaced):
        draws = torch.multinomial(
            alpha[alive].cpu(), len(replaced), replacement=True, generator=generator
        )
        rows[replaced] = alive.cpu()[draws]
    return rows.to(opacities.device)


@torch.no_grad()
def share_opacity(gaussians: Gaussians, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Compute opacities and scales for which the copies together render like the original.

    For n copies in one place, 1 − (1 − o')^n = o, and the scales keep the integral along a ray
    through the center. Source: Kheradmand et al. 2024, eq. 9. Copies have at least
    `SHARED_OPACITY_MIN`, so those of a faint Gaussian render stronger than it.

    Args:
        gaussians: N Gaussians before the rows are replaced.
        rows: the result of `relocation_plan`, [N'].

    Returns:
        Logit opacities [N'] and logarithmic scales [N', 3] of the new rows.
    """
    copies = torch.bincount(rows, minlength=len(gaussians.means)).clamp(max=MAX_COPIES)
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
    logits = torch.logit(shared.clamp(SHARED_OPACITY_MIN, 1 - 1e-6))
    logits = torch.where(several, logits, gaussians.opacities)
    scales = gaussians.scales + torch.where(several, factor.log(), 0)[:, None]
    return logits[rows], scales[rows]


@torch.no_grad()
def density_plan(
    gaussians: Gaussians, gradients: Tensor, policy: GrowAndPrune, limits: Limits
) -> tuple[Tensor, Tensor]:
    """Choose the old row from which each new row is copied, and the halves of split Gaussians.

    Args:
        gaussians: N Gaussians.
        gradients: mean gradient norm of each projected mean in half images, [N].
        policy: thresholds.
        limits: limits of the step; if the cap is too low for all, the largest gradients win.

    Returns:
        Old rows [N'], and whether each new row is a half of a split Gaussian, bool, [N'].
    """
    opacity, extent = gaussians.opacities.sigmoid(), gaussians.scales.exp().amax(dim=1)
    kept = opacity > policy.dead_opacity
    duplicated = kept & (gradients > policy.gradient)
    room = max(0, limits.max_gaussians - int(kept.sum()))
    if int(duplicated.sum()) > room:
        order = torch.where(duplicated, gradients, -1).argsort(descending=True, stable=True)
        duplicated = torch.zeros_like(duplicated).index_fill_(0, order[:room], True)
    rows = torch.cat([kept.nonzero()[:, 0], duplicated.nonzero()[:, 0]])
    return rows, (duplicated & (extent > policy.small * limits.radius))[rows]


@torch.no_grad()
def split(
    gaussians: Gaussians, halves: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Sample the means of halves from the density of the split Gaussian and shrink their scales.

    Args:
        gaussians: N Gaussians.
        halves: whether a row is a half of a split Gaussian, bool, [N].
        generator: source of randomness, on the CPU.

    Returns:
        Means [N, 3] and logarithmic scales [N, 3] of all rows.
    """
    noise = torch.randn(gaussians.means.shape, generator=generator).to(gaussians.means)
    offsets = quats_to_matrices(gaussians.quats) @ (gaussians.scales.exp() * noise)[..., None]
    means = torch.where(halves[:, None], gaussians.means + offsets[..., 0], gaussians.means)
    smaller = gaussians.scales - math.log(SPLIT_SHRINKAGE)
    return means, torch.where(halves[:, None], smaller, gaussians.scales)
