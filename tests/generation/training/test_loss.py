"""The denoising loss of known denoisers, and conditioning dropout."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from generation.conditioning import Conditioning, camera_vector, without_image
from generation.diffusion import coefficients
from generation.training.clip_sampling import SampleRng
from generation.training.conditioning import drop_conditioning
from generation.training.loss import denoising_loss, sample_sigmas

B, F = 3, 4
SIGMAS = torch.tensor([0.05, 1.0, 30.0])


def conditioning(seed: int) -> Conditioning:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    vector = camera_vector(torch.rand(F, generator=generator), torch.rand(F, generator=generator))
    return Conditioning(random(F, 4, 2, 2), random(2, 8), vector, random(2, 4, 2, 2))


CONDITIONINGS = [conditioning(seed) for seed in range(B)]


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(B, F, 4, 2, 2, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(B, F, 4, 2, 2, generator=torch.Generator().manual_seed(8))


def test_a_perfect_denoiser_has_no_loss(latents, noise):
    def predict(x: Tensor, levels: Tensor, conditionings: Sequence[Conditioning]) -> Tensor:
        made = []
        for i, sigma in enumerate(SIGMAS.tolist()):
            c = coefficients(sigma)
            noisy = latents[i] + sigma * noise[i]
            made.append((latents[i] - c.c_skip * noisy) / c.c_out)
        return torch.cat(made)

    loss = denoising_loss(predict, latents, CONDITIONINGS, SIGMAS, noise)
    torch.testing.assert_close(loss, torch.zeros(B), atol=1e-6, rtol=0)


def test_it_is_the_error_of_the_predicted_noise_weighted_by_one_more_than_the_variance(
    latents, noise
):
    weights = torch.randn(4, 8, generator=torch.Generator().manual_seed(9)) / 3

    def predict(x: Tensor, levels: Tensor, conditionings: Sequence[Conditioning]) -> Tensor:
        assert levels.tolist() == pytest.approx(
            [0.25 * math.log(sigma) for sigma in SIGMAS.tolist() for _ in range(F)]
        )
        return torch.einsum("oi,nihw->nohw", weights.to(x), x)

    found = denoising_loss(predict, latents, CONDITIONINGS, SIGMAS, noise)
    for i, sigma in enumerate(SIGMAS.double().tolist()):
        z, e = latents[i].double(), noise[i].double()
        x, root = z + sigma * e, math.sqrt(1 + sigma**2)
        inputs = torch.cat([x / root, CONDITIONINGS[i].concat.double()], dim=1)
        made = torch.einsum("oi,nihw->nohw", weights.double(), inputs)
        denoised = x / root**2 - sigma / root * made
        predicted_noise = (x - denoised) / sigma
        expected = (sigma**2 + 1) * (e - predicted_noise).square().mean()
        assert found[i].item() == pytest.approx(expected.item(), rel=1e-4)


def test_noise_levels_are_log_normal():
    levels = sample_sigmas(SampleRng(0, 0, range(4000)), 0.7, 1.6).log()
    assert levels.mean().item() == pytest.approx(0.7, abs=0.08)
    assert levels.std().item() == pytest.approx(1.6, abs=0.08)


@pytest.mark.parametrize(("drop", "kept"), [(0.0, True), (1.0, False)])
def test_dropping_leaves_the_unconditional_conditioning(drop, kept):
    found = drop_conditioning(CONDITIONINGS, SampleRng(0, 0, range(B)), drop)
    for made, whole in zip(found, CONDITIONINGS, strict=True):
        expected = vars(whole if kept else without_image(whole))
        for name, tensor in vars(made).items():
            assert torch.equal(tensor, expected[name]), name


def test_a_share_of_the_samples_is_dropped():
    many = drop_conditioning([CONDITIONINGS[0]] * 2000, SampleRng(0, 0, range(2000)), 0.1)
    dropped = sum(not each.context.any() for each in many)
    assert dropped / 2000 == pytest.approx(0.1, abs=0.025)


def test_what_is_dropped_has_a_gradient_of_zero():
    whole = conditioning(0)
    context = whole.context.requires_grad_()
    (dropped,) = drop_conditioning([whole], SampleRng(0, 0, [0]), 1.0)
    dropped.context.sum().backward()
    assert context.grad is not None
    assert not context.grad.any()
