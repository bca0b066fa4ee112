"""From a network that predicts v to a denoiser, guided by what happens without conditioning.

Letters: σ noise level, F frames, N = b·F for b conditionings, c channels and h × w pixels of
latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from generation.conditioning import Conditioning

Denoiser = Callable[[Tensor, float], Tensor]
"""Noisy latents [F, c, h, w] and their σ to denoised latents of the same shape."""

Predictor = Callable[[Tensor, Tensor, Sequence[Conditioning]], Tensor]
"""Network input [N, 2c, h, w], c_noise [N] and b conditionings to a prediction [N, c, h, w]."""


class Coefficients(NamedTuple):
    """D(x; σ) = c_skip · x + c_out · network(c_in · x; c_noise)."""

    c_skip: float
    c_out: float
    c_in: float
    c_noise: float


def coefficients(sigma: float) -> Coefficients:
    """Preconditioning of a network that predicts v, told its noise level as EDM does.

    Source: Karras et al. 2022, eq. 7, with the coefficients of v-prediction.
    """
    root = math.sqrt(sigma**2 + 1)
    return Coefficients(1 / root**2, -sigma / root, 1 / root, 0.25 * math.log(sigma))


def guided_denoiser(
    predict: Predictor,
    conditioning: Conditioning,
    unconditional: Conditioning,
    scale: Tensor,
    together: bool = True,
) -> Denoiser:
    """A denoiser that goes beyond the conditional prediction, away from the unconditional one.

    Args:
        predict: the network.
        conditioning: what to follow.
        unconditional: the same with what is to be followed left out.
        scale: 1 follows the conditional prediction as it is, [F].
        together: whether both predictions are one call of the network; two calls take half the
            memory and give the same up to rounding.

    Returns:
        D_u + scale · (D_c − D_u), float32. Where the scale is 1 throughout that is D_c, and the
        other prediction is not made.
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


def plain_denoiser(predict: Predictor, conditionings: Sequence[Conditioning]) -> Denoiser:
    """A denoiser that follows the conditional prediction as it is.

    Args:
        predict: the network.
        conditionings: b of them; the latents that it is given are b · F, those of each together.
    """
    return lambda x, sigma: _denoised(predict, x, sigma, conditionings)


def _denoised(
    predict: Predictor, x: Tensor, sigma: float, conditionings: Sequence[Conditioning]
) -> Tensor:
    """Denoised latents [b·F, c, h, w], F of them under each conditioning, float32."""
    c = coefficients(sigma)
    told = torch.cat([each.concat for each in conditionings])
    noise = torch.full((len(x),), c.c_noise, device=x.device)
    prediction = predict(torch.cat([x * c.c_in, told], 1), noise, conditionings).float()
    return c.c_skip * x + c.c_out * prediction
