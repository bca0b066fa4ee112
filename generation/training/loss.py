"""Denoising loss of the diffusion stages.

    x = z + σ ε,   ln σ ~ N(mean, std²),   loss = (σ² + 1) / σ² · ‖D(x; σ) − z‖²

With D(x; σ) = x − σ ε_θ this is (σ² + 1) ‖ε − ε_θ‖²: the paper's loss with EDM's weighting, under
which errors of the network's output count equally at all noise levels.

Letters: B samples of F frames each, c channels, s latent pixels on a side.

Source: 4DVD, eq. 4 and 5; Karras et al. 2022, eq. 8 and table 1, with σ_data = 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from generation.conditioning import Conditioning
from generation.diffusion import Predictor, coefficients
from generation.training.clip_sampling import SampleRng


def sample_sigmas(rng: SampleRng, mean: float, std: float) -> Tensor:
    """Sample a noise level for each sample, [B].

    Args:
        rng: random number generators.
        mean: mean of ln σ.
        std: standard deviation of ln σ.
    """
    return (mean + std * rng.normal()).exp()


def denoising_loss(
    predict: Predictor,
    latents: Tensor,
    conditionings: Sequence[Conditioning],
    sigmas: Tensor,
    noise: Tensor,
) -> Tensor:
    """Compute the loss of each sample.

    Args:
        predict: the network.
        latents: scaled latents z, [B, F, c, s, s].
        conditionings: the conditioning of each sample.
        sigmas: noise levels, [B].
        noise: standard normal noise ε, [B, F, c, s, s].

    Returns:
        Loss of each sample, float32, [B].
    """
    x = latents + _column(sigmas) * noise
    factors = zip(*map(coefficients, sigmas.tolist()), strict=True)
    c_skip, c_out, c_in, c_noise = (sigmas.new_tensor(each) for each in factors)
    concat = torch.stack([each.concat for each in conditionings])
    inputs = torch.cat([_column(c_in) * x, concat], dim=2).flatten(0, 1)
    levels = c_noise.repeat_interleave(latents.shape[1])
    prediction = predict(inputs, levels, conditionings).float().view(x.shape)
    denoised = _column(c_skip) * x + _column(c_out) * prediction
    return (denoised - latents).square().flatten(1).mean(1) / c_out**2


def _column(values: Tensor) -> Tensor:
    """Reshape [B] to [B, 1, 1, 1, 1]."""
    return values[:, None, None, None, None]
