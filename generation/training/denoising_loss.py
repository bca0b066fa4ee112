"""What the diffusion stages minimise: how far denoised latents are from the true ones.

    x = z + σ ε,   ln σ ~ N(mean, std²),   loss = (σ² + 1) / σ² · ‖D(x; σ) − z‖²

With D(x; σ) = x − σ ε_θ this is (σ² + 1) ‖ε − ε_θ‖², the paper's loss with EDM's weights, which
give the network's own output the same weight at all noise levels. A share of the samples is trained
without what guidance leads away from. Letters: B samples, F frames of each, c channels, s latent
pixels on a side. What it does not know: what the frames are.

Source: 4DVD, eq. 4 and 5; Karras et al. 2022, eq. 8 and its table 1, whose σ_data is 1 here;
Ho & Salimans 2022, "Classifier-free diffusion guidance", algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from generation.conditioning import Conditioning, without_image
from generation.diffusion import Predictor, coefficients
from generation.training.draws import Draws


def draw_sigmas(draws: Draws, mean: float, std: float) -> Tensor:
    """A noise level for each sample, [B].

    Args:
        draws: random numbers.
        mean: of ln σ.
        std: of ln σ.
    """
    return (mean + std * draws.normal()).exp()


def denoising_loss(
    predict: Predictor,
    latents: Tensor,
    conditionings: Sequence[Conditioning],
    sigmas: Tensor,
    noise: Tensor,
) -> Tensor:
    """The loss of each sample.

    Args:
        predict: the network.
        latents: z, scaled, [B, F, c, s, s].
        conditionings: of each sample.
        sigmas: [B].
        noise: ε, like the latents.

    Returns:
        float32, [B].
    """
    x = latents + _column(sigmas) * noise
    factors = zip(*map(coefficients, sigmas.tolist()), strict=True)
    c_skip, c_out, c_in, c_noise = (sigmas.new_tensor(each) for each in factors)
    told = torch.stack([each.concat for each in conditionings])
    inputs = torch.cat([_column(c_in) * x, told], dim=2).flatten(0, 1)
    levels = c_noise.repeat_interleave(latents.shape[1])
    prediction = predict(inputs, levels, conditionings).float().view(x.shape)
    denoised = _column(c_skip) * x + _column(c_out) * prediction
    return (denoised - latents).square().flatten(1).mean(1) / c_out**2


def keep_some(
    conditionings: Sequence[Conditioning], draws: Draws, drop: float
) -> list[Conditioning]:
    """Leaves a share of the samples with their cameras alone.

    What is left out is multiplied by zero, so that whatever made it has a gradient all the same.

    Args:
        conditionings: of each sample.
        draws: random numbers.
        drop: the share, in [0, 1].
    """
    kept = (draws.uniform() >= drop).float()
    return [_kept(each, keep) for each, keep in zip(conditionings, kept, strict=True)]


def _kept(conditioning: Conditioning, keep: Tensor) -> Conditioning:
    without = vars(without_image(conditioning))
    tensors = {
        name: torch.lerp(without[name], tensor, keep)
        for name, tensor in vars(conditioning).items()
        if tensor is not None
    }
    return Conditioning(**tensors)


def _column(values: Tensor) -> Tensor:
    """[B] as [B, 1, 1, 1, 1]."""
    return values[:, None, None, None, None]
