"""What a network of v is asked, and what is made of its answer."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from generation.conditioning import Conditioning
from generation.diffusion.denoiser import coefficients, guided_denoiser
from tests.generation.models.random_weights import numbers

F, SIGMAS = 3, (0.002, 0.5, 1.0, 20.0, 700.0)
SHAPE = (F, 4, 2, 2)


def told(seed: int) -> Conditioning:
    return Conditioning(numbers(*SHAPE, seed=seed), numbers(F, 5), numbers(F, 7))


CONDITIONAL, UNCONDITIONAL = told(1), told(2)


class Network:
    """Answers depend on all that it is told; keeps what it was asked."""

    def __init__(self):
        self.asked: list[tuple[Tensor, Tensor, Sequence[Conditioning]]] = []

    def __call__(self, x: Tensor, noise: Tensor, conditionings: Sequence[Conditioning]) -> Tensor:
        self.asked.append((x, noise, conditionings))
        return torch.sin(x[:, :4] + 2 * x[:, 4:] + noise[:, None, None, None])


def denoised(scale: Tensor, sigma: float = 1.5, together: bool = True) -> Tensor:
    denoise = guided_denoiser(Network(), CONDITIONAL, UNCONDITIONAL, scale, together)
    return denoise(numbers(*SHAPE), sigma)


def alone(conditioning: Conditioning, sigma: float = 1.5) -> Tensor:
    """D(x; σ) under one conditioning, by its formula."""
    x, root = numbers(*SHAPE), math.sqrt(sigma**2 + 1)
    noise = torch.full((F,), math.log(sigma) / 4)
    v = Network()(torch.cat([x / root, conditioning.concat], 1), noise, [conditioning])
    return x / root**2 - sigma / root * v


@pytest.mark.parametrize("sigma", SIGMAS)
def test_who_knows_v_finds_the_clean_latent(sigma: float):
    """The variance-preserving latent αx₀ + βε has the velocity αε − βx₀."""
    clean, noise = numbers(*SHAPE), numbers(*SHAPE, seed=1)
    alpha, beta = 1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma)
    c = coefficients(sigma)
    x = clean + sigma * noise
    torch.testing.assert_close(c.c_in * x, alpha * clean + beta * noise)
    v = alpha * noise - beta * clean
    torch.testing.assert_close(c.c_skip * x + c.c_out * v, clean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_networks_input_has_unit_variance_and_noise_is_told_as_a_logarithm(sigma: float):
    c = coefficients(sigma)
    assert c.c_in**2 * (1 + sigma**2) == pytest.approx(1)
    assert math.exp(4 * c.c_noise) == pytest.approx(sigma)


@pytest.mark.parametrize("together", [True, False])
def test_a_scale_of_1_follows_the_conditioning_and_0_what_has_none(together: bool):
    torch.testing.assert_close(denoised(torch.ones(F), together=together), alone(CONDITIONAL))
    torch.testing.assert_close(denoised(torch.zeros(F), together=together), alone(UNCONDITIONAL))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_every_frame_goes_beyond_its_conditioning_by_its_own_scale(sigma: float):
    scale = torch.tensor([1.0, 2.5, -0.5])
    without, following = alone(UNCONDITIONAL, sigma), alone(CONDITIONAL, sigma)
    expected = without + scale[:, None, None, None] * (following - without)
    torch.testing.assert_close(denoised(scale, sigma), expected, rtol=1e-4, atol=1e-4)


def test_one_call_for_both_gives_what_two_calls_give():
    scale = torch.tensor([1.0, 2.5, 1.7])
    torch.testing.assert_close(denoised(scale, together=True), denoised(scale, together=False))


@pytest.mark.parametrize("together", [True, False])
def test_the_unconditional_half_comes_first_and_conditioning_latents_are_not_scaled(
    together: bool,
):
    network, x, sigma = Network(), numbers(*SHAPE), 20.0
    scale = torch.full((F,), 2.0)
    guided_denoiser(network, CONDITIONAL, UNCONDITIONAL, scale, together)(x, sigma)
    inputs, noise, conditionings = zip(*network.asked, strict=True)
    assert [each for pair in conditionings for each in pair] == [UNCONDITIONAL, CONDITIONAL]
    assert len(inputs) == (1 if together else 2)
    pairs = torch.cat(inputs).unflatten(0, (2, F))
    torch.testing.assert_close(pairs[:, :, :4], (x / math.sqrt(401)).expand(2, *SHAPE))
    assert torch.equal(pairs[0, :, 4:], UNCONDITIONAL.concat)
    assert torch.equal(pairs[1, :, 4:], CONDITIONAL.concat)
    torch.testing.assert_close(torch.cat(noise), torch.full((2 * F,), math.log(20) / 4))


def test_a_prediction_of_half_precision_becomes_a_float32_latent():
    def half(x: Tensor, noise: Tensor, conditionings: Sequence[Conditioning]) -> Tensor:
        return Network()(x, noise, conditionings).bfloat16()

    x = numbers(*SHAPE)
    for last in (1.0, 1.5):
        scale = torch.tensor([1.0, 1.0, last])
        found = guided_denoiser(half, CONDITIONAL, UNCONDITIONAL, scale)(x, 1.5)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found[:2], alone(CONDITIONAL)[:2], rtol=0, atol=0.01)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_without_guidance_the_network_is_called_once_and_gives_what_guidance_of_1_gives(
    sigma: float, together: bool
):
    network = Network()
    denoise = guided_denoiser(network, CONDITIONAL, UNCONDITIONAL, torch.ones(F), together)
    found = denoise(numbers(*SHAPE), sigma)
    (asked,) = network.asked
    assert len(asked[0]) == F
    assert list(asked[2]) == [CONDITIONAL]
    guided = denoised(torch.tensor([1.0, 1.0, 2.0]), sigma, together)
    torch.testing.assert_close(found[:2], guided[:2])
