"""From noise to latents, by Euler's method along the probability flow.

Letters: F frames, T times, h × w latent pixels, σ noise level.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from generation.diffusion.denoiser import Denoiser
from recon.errors import DivergedError


def start(noise: Tensor, sigmas: Tensor) -> Tensor:
    """Standard normal noise at the first level of a run."""
    return noise * math.sqrt(1 + float(sigmas[0]) ** 2)


def euler(
    denoisers: Sequence[Denoiser],
    x: Tensor,
    sigmas: Tensor,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Follows the denoisers from the first noise level to the last.

    Args:
        denoisers: taken in turn, one for a step.
        x: noisy latents at `sigmas[0]`, float32, [F, 4, h, w].
        sigmas: descending, [steps + 1].
        on_step: told the number of steps made; what it raises ends the run.

    Returns:
        Latents at `sigmas[-1]`.

    Raises:
        DivergedError: a step gave numbers that are not finite.

    Source: Karras et al. 2022, algorithm 1 without the correction.
    """
    levels = sigmas.tolist()
    turns = zip(itertools.pairwise(levels), itertools.cycle(denoisers), strict=False)
    for step, ((sigma, next_sigma), denoise) in enumerate(turns):
        denoised = denoise(x, sigma)
        x = x + (x - denoised) * ((next_sigma - sigma) / sigma)
        if not torch.isfinite(x).all():
            raise DivergedError(
                f"step {step + 1} of {len(levels) - 1} (σ = {sigma:.3g}) gave latents that are not "
                "finite numbers"
            )
        if on_step is not None:
            on_step(step + 1)
    return x


def reversed_in_time(denoise: Denoiser, times: int) -> Denoiser:
    """A denoiser for latents in ascending order of time, of one that wants them descending."""

    def flipped(x: Tensor) -> Tensor:
        return x.unflatten(0, (times, -1)).flip(0).flatten(0, 1)

    return lambda x, sigma: flipped(denoise(flipped(x), sigma))
