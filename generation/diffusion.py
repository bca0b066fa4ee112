"""Diffusion sampling as pure functions: noise schedule, preconditioning, guidance, Euler's method.

    noise ──start──▶ x at σ_max ──euler: denoiser, denoiser, …──▶ latents at σ = 0

Letters: σ noise level, T frames, V views, N = T·V samples (index t·V + v), B conditionings that
share one call of the network, C channels and h × w pixels of latents.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from generation.conditioning import Conditioning
from recon.errors import DivergedError

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 700.0, 7.0  # noise schedule of SV3D and SV4D

Denoiser = Callable[[Tensor, float], Tensor]
"""Maps noisy latents [N, C, h, w] and their σ to denoised latents of the same shape."""

Predictor = Callable[[Tensor, Tensor, Sequence[Conditioning]], Tensor]
"""Maps network input [B·N, 2C, h, w], c_noise [B·N] and B conditionings to a prediction
[B·N, C, h, w]."""


# -- noise schedule


def karras_sigmas(
    steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = RHO
) -> Tensor:
    """Compute the noise levels of a sampler run, evenly spaced in σ^(1/ρ), with a 0 at the end.

    Args:
        steps: number of denoising steps, at least 1.
        sigma_min: last level before 0.
        sigma_max: first level.
        rho: larger values place more levels at little noise.

    Returns:
        Descending, float32, [steps + 1].

    Source: Karras et al. 2022, eq. 5.
    """
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()


# -- preconditioning


class Coefficients(NamedTuple):
    """Coefficients of D(x; σ) = c_skip · x + c_out · network(c_in · x; c_noise)."""

    c_skip: float
    c_out: float
    c_in: float
    c_noise: float


def coefficients(sigma: float) -> Coefficients:
    """Compute the preconditioning of a v-prediction network with EDM's noise conditioning.

    Source: Karras et al. 2022, eq. 7, with the coefficients of v-prediction.
    """
    root = math.sqrt(sigma**2 + 1)
    return Coefficients(1 / root**2, -sigma / root, 1 / root, 0.25 * math.log(sigma))


def plain_denoiser(predict: Predictor, conditionings: Sequence[Conditioning]) -> Denoiser:
    """Make a denoiser without guidance.

    Args:
        predict: the network.
        conditionings: B conditionings; the denoiser takes B·N latents, N for each in order.
    """
    return lambda x, sigma: _denoised(predict, x, sigma, conditionings)


def _denoised(
    predict: Predictor, x: Tensor, sigma: float, conditionings: Sequence[Conditioning]
) -> Tensor:
    """Denoise latents [B·N, C, h, w], N under each conditioning; float32."""
    c = coefficients(sigma)
    concat = torch.cat([each.concat for each in conditionings])
    noise = torch.full((len(x),), c.c_noise, device=x.device)
    prediction = predict(torch.cat([x * c.c_in, concat], 1), noise, conditionings).float()
    return c.c_skip * x + c.c_out * prediction


# -- guidance


def guided_denoiser(
    predict: Predictor,
    conditioning: Conditioning,
    unconditional: Conditioning,
    scale: Tensor,
    together: bool = True,
) -> Denoiser:
    """Make a denoiser with classifier-free guidance.

    Args:
        predict: the network.
        conditioning: the conditioning to follow.
        unconditional: the same with its image dropped.
        scale: guidance scale of each sample, [N]; 1 is no guidance.
        together: whether both predictions are one call of the network; two calls take half the
            memory and give the same result up to rounding.

    Returns:
        A denoiser that computes D_u + scale · (D_c − D_u), float32. Where the scale is 1 throughout
        that is D_c, and the unconditional prediction is never computed.
    """
    weights = scale[:, None, None, None]
    if bool((scale == 1).all()):
        return plain_denoiser(predict, (conditioning,))

    def denoise(x: Tensor, sigma: float) -> Tensor:
        pair = (unconditional, conditioning)
        groups = (pair,) if together else ((pair[0],), (pair[1],))
        without, following = torch.cat(
            [_denoised(predict, x.repeat(len(group), 1, 1, 1), sigma, group) for group in groups]
        ).chunk(2)
        return torch.lerp(without, following, weights.to(following))

    return denoise


def triangle(count: int) -> Tensor:
    """Compute a triangle window: 0 at both ends, 1 in the middle (between samples if even)."""
    return 1 - (2 * torch.linspace(0, 1, count) - 1).abs()


def orbit_scale(views: int, low: float, high: float) -> Tensor:
    """Compute SV3D's guidance scale, strongest half-way around the orbit, [V]."""
    return low + (high - low) * triangle(views)


def linear_scale(samples: int, low: float, high: float) -> Tensor:
    """Compute SV4D 2.0's guidance scale, rising along the flat list of samples, [N]."""
    return torch.linspace(low, high, samples)


def space_time_scale(frames: int, views: int, low: float, high: float) -> Tensor:
    """Compute SV4D's guidance scale: rises with time, strongest half-way around, [T·V]."""
    share = 0.5 * torch.linspace(0, 1, frames)[:, None] + 0.5 * triangle(views)
    return (low + (high - low) * share).flatten()


# -- Euler's method


def start(noise: Tensor, sigmas: Tensor) -> Tensor:
    """Scale standard normal noise to the first noise level of a run."""
    return noise * math.sqrt(1 + float(sigmas[0]) ** 2)


def euler(
    denoisers: Sequence[Denoiser],
    x: Tensor,
    sigmas: Tensor,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Integrate the probability flow ODE from the first noise level to the last.

    Args:
        denoisers: denoisers of successive steps, repeated cyclically.
        x: noisy latents at `sigmas[0]`, float32, [N, C, h, w].
        sigmas: descending, [steps + 1].
        on_step: called after each step with the number of steps done; an exception ends the run.

    Returns:
        Latents at `sigmas[-1]`.

    Raises:
        DivergedError: a step gave values that are not finite.

    Source: Karras et al. 2022, algorithm 1 without the second-order correction.
    """
    levels = sigmas.tolist()
    turns = zip(itertools.pairwise(levels), itertools.cycle(denoisers), strict=False)
    for step, ((sigma, next_sigma), denoise) in enumerate(turns):
        denoised = denoise(x, sigma)
        x = x + (x - denoised) * ((next_sigma - sigma) / sigma)
        if not torch.isfinite(x).all():
            raise DivergedError(
                f"step {step + 1} of {len(levels) - 1} (σ = {sigma:.3g}) gave latents that are not "
                "finite"
            )
        if on_step is not None:
            on_step(step + 1)
    return x


def reversed_in_time(denoise: Denoiser, frames: int) -> Denoiser:
    """Make a denoiser of latents in ascending frame order from one that takes them descending."""

    def flipped(x: Tensor) -> Tensor:
        return x.unflatten(0, (frames, -1)).flip(0).flatten(0, 1)

    return lambda x, sigma: flipped(denoise(flipped(x), sigma))
