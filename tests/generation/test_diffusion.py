"""Schedule, preconditioning, guidance and Euler's method on problems whose solution is known."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from generation.conditioning import Conditioning
from generation.diffusion import (
    RHO,
    SIGMA_MAX,
    SIGMA_MIN,
    coefficients,
    euler,
    guided_denoiser,
    karras_sigmas,
    linear_scale,
    orbit_scale,
    reversed_in_time,
    space_time_scale,
    start,
    triangle,
)
from recon.errors import DivergedError
from tests.generation.models.random_weights import numbers

# -- noise schedule


@pytest.mark.parametrize("steps", [2, 20, 50])
def test_levels_fall_from_the_most_noise_to_the_least_and_end_at_none(steps: int):
    sigmas = karras_sigmas(steps)
    assert sigmas.shape == (steps + 1,)
    assert (sigmas.diff() < 0).all()
    assert float(sigmas[0]) == pytest.approx(SIGMA_MAX)
    assert float(sigmas[-2]) == pytest.approx(SIGMA_MIN)
    assert float(sigmas[-1]) == 0


@pytest.mark.parametrize("rho", [1.0, 3.0, RHO])
def test_levels_are_evenly_spaced_in_their_root(rho: float):
    spaces = karras_sigmas(9, 0.1, 80.0, rho)[:-1].double().pow(1 / rho).diff()
    torch.testing.assert_close(spaces, spaces.mean().expand(8), rtol=1e-5, atol=0)


def test_a_single_step_goes_from_the_most_noise_to_none():
    assert karras_sigmas(1).tolist() == pytest.approx([SIGMA_MAX, 0])


# -- preconditioning and guidance


N, SIGMAS = 3, (0.002, 0.5, 1.0, 20.0, 700.0)
BATCH = (N, 4, 2, 2)


def conditioning(seed: int) -> Conditioning:
    return Conditioning(numbers(*BATCH, seed=seed), numbers(N, 5), numbers(N, 7))


CONDITIONAL, UNCONDITIONAL = conditioning(1), conditioning(2)


class Network:
    """Network whose output depends on all inputs, which it records."""

    def __init__(self):
        self.asked: list[tuple[Tensor, Tensor, Sequence[Conditioning]]] = []

    def __call__(self, x: Tensor, noise: Tensor, conditionings: Sequence[Conditioning]) -> Tensor:
        self.asked.append((x, noise, conditionings))
        return torch.sin(x[:, :4] + 2 * x[:, 4:] + noise[:, None, None, None])


def denoised(scale: Tensor, sigma: float = 1.5, together: bool = True) -> Tensor:
    denoise = guided_denoiser(Network(), CONDITIONAL, UNCONDITIONAL, scale, together)
    return denoise(numbers(*BATCH), sigma)


def alone(followed: Conditioning, sigma: float = 1.5) -> Tensor:
    """Compute D(x; σ) under one conditioning by its formula."""
    x, root = numbers(*BATCH), math.sqrt(sigma**2 + 1)
    noise = torch.full((N,), math.log(sigma) / 4)
    v = Network()(torch.cat([x / root, followed.concat], 1), noise, [followed])
    return x / root**2 - sigma / root * v


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_true_velocity_gives_the_clean_latent(sigma: float):
    """The variance-preserving latent αx₀ + βε has the velocity αε − βx₀."""
    clean, noise = numbers(*BATCH), numbers(*BATCH, seed=1)
    alpha, beta = 1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma)
    c = coefficients(sigma)
    x = clean + sigma * noise
    torch.testing.assert_close(c.c_in * x, alpha * clean + beta * noise)
    v = alpha * noise - beta * clean
    torch.testing.assert_close(c.c_skip * x + c.c_out * v, clean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_network_input_has_unit_variance_and_c_noise_is_a_logarithm(sigma: float):
    c = coefficients(sigma)
    assert c.c_in**2 * (1 + sigma**2) == pytest.approx(1)
    assert math.exp(4 * c.c_noise) == pytest.approx(sigma)


@pytest.mark.parametrize("together", [True, False])
def test_a_scale_of_1_gives_the_conditional_prediction_and_0_the_unconditional(together: bool):
    torch.testing.assert_close(denoised(torch.ones(N), together=together), alone(CONDITIONAL))
    torch.testing.assert_close(denoised(torch.zeros(N), together=together), alone(UNCONDITIONAL))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_every_sample_is_guided_by_its_own_scale(sigma: float):
    scale = torch.tensor([1.0, 2.5, -0.5])
    without, following = alone(UNCONDITIONAL, sigma), alone(CONDITIONAL, sigma)
    expected = without + scale[:, None, None, None] * (following - without)
    torch.testing.assert_close(denoised(scale, sigma), expected, rtol=1e-4, atol=1e-4)


def test_one_call_for_both_halves_equals_two_calls():
    scale = torch.tensor([1.0, 2.5, 1.7])
    torch.testing.assert_close(denoised(scale, together=True), denoised(scale, together=False))


@pytest.mark.parametrize("together", [True, False])
def test_the_unconditional_half_comes_first_and_conditioning_latents_are_not_scaled(
    together: bool,
):
    network, x, sigma = Network(), numbers(*BATCH), 20.0
    scale = torch.full((N,), 2.0)
    guided_denoiser(network, CONDITIONAL, UNCONDITIONAL, scale, together)(x, sigma)
    inputs, noise, conditionings = zip(*network.asked, strict=True)
    assert [each for pair in conditionings for each in pair] == [UNCONDITIONAL, CONDITIONAL]
    assert len(inputs) == (1 if together else 2)
    pairs = torch.cat(inputs).unflatten(0, (2, N))
    torch.testing.assert_close(pairs[:, :, :4], (x / math.sqrt(401)).expand(2, *BATCH))
    assert torch.equal(pairs[0, :, 4:], UNCONDITIONAL.concat)
    assert torch.equal(pairs[1, :, 4:], CONDITIONAL.concat)
    torch.testing.assert_close(torch.cat(noise), torch.full((2 * N,), math.log(20) / 4))


def test_a_half_precision_prediction_becomes_a_float32_latent():
    def half(x: Tensor, noise: Tensor, conditionings: Sequence[Conditioning]) -> Tensor:
        return Network()(x, noise, conditionings).bfloat16()

    x = numbers(*BATCH)
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
    denoise = guided_denoiser(network, CONDITIONAL, UNCONDITIONAL, torch.ones(N), together)
    found = denoise(numbers(*BATCH), sigma)
    (asked,) = network.asked
    assert len(asked[0]) == N
    assert list(asked[2]) == [CONDITIONAL]
    guided = denoised(torch.tensor([1.0, 1.0, 2.0]), sigma, together)
    torch.testing.assert_close(found[:2], guided[:2])


# -- guidance scales


@pytest.mark.parametrize("count", [3, 8, 21])
def test_a_triangle_is_symmetric_rises_evenly_and_has_its_peak_in_the_middle(count: int):
    found = triangle(count)
    torch.testing.assert_close(found, found.flip(0))
    assert float(found[0]) == 0
    rise = found[: (count + 1) // 2].diff()
    torch.testing.assert_close(rise, torch.full_like(rise, 2 / (count - 1)))
    assert float(found.max()) == pytest.approx(1 if count % 2 else 1 - 1 / (count - 1))


def test_an_even_number_of_views_never_reaches_the_peak():
    assert float(triangle(8).max()) == pytest.approx(0.857, abs=1e-3)


def test_an_orbit_is_guided_most_strongly_half_way_around():
    scale = orbit_scale(21, 1.0, 2.5)
    assert [float(scale[k]) for k in (0, 10, 20)] == pytest.approx([1.0, 2.5, 1.0])
    assert float(scale[5]) == pytest.approx(1.75)


def test_the_linear_scale_rises_along_the_flat_list_of_samples():
    scale = linear_scale(48, 1.0, 2.0)
    torch.testing.assert_close(scale, 1 + torch.arange(48) / 47)


@pytest.mark.parametrize(("times", "views"), [(5, 8), (12, 4), (5, 3)])
def test_space_and_time_share_the_scale_equally_with_time_outermost(times: int, views: int):
    scale = space_time_scale(times, views, 1.5, 2.5).view(times, views)
    for t in range(times):
        for v in range(views):
            tri = 1 - abs(2 * v / (views - 1) - 1)
            share = 0.5 * t / (times - 1) + 0.5 * tri
            assert float(scale[t, v]) == pytest.approx(1.5 + share)


# -- Euler's method


SHAPE = (6, 4, 2, 2)
MEAN, DEVIATION = 0.7, 0.5


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """The denoiser of data with a normal distribution: the posterior's mean."""
    variance = DEVIATION**2
    return (variance * x + sigma**2 * MEAN) / (variance + sigma**2)


def flow_of_gaussian(x: Tensor, sigma: float) -> Tensor:
    """Compute the exact ODE solution: the distance from the mean is proportional to √(s² + σ²)."""
    return MEAN + (x - MEAN) * DEVIATION / math.sqrt(DEVIATION**2 + sigma**2)


def end_error(steps: int) -> float:
    sigmas = karras_sigmas(steps)
    x = start(numbers(*SHAPE, dtype=torch.float64), sigmas)
    found = euler([gaussian], x, sigmas)
    return float((found - flow_of_gaussian(x, SIGMA_MAX)).abs().max())


def test_normal_data_are_reached_with_first_order_accuracy():
    """Halving the step size halves the error."""
    errors = [end_error(steps) for steps in (50, 100, 200, 400)]
    assert errors[0] < 0.2
    for coarse, fine in itertools.pairwise(errors):
        assert 1.7 < coarse / fine < 2.3


def test_noise_becomes_normal_data_of_the_right_mean_and_deviation():
    sigmas = karras_sigmas(100)
    found = euler([gaussian], start(numbers(4000, 4, 1, 1), sigmas), sigmas)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(found.std()) == pytest.approx(DEVIATION, rel=0.05)


def test_the_start_has_the_deviation_of_noisy_data_of_unit_variance():
    sigmas = torch.tensor([3.0, 1.0, 0.0])
    torch.testing.assert_close(start(numbers(*SHAPE), sigmas), math.sqrt(10) * numbers(*SHAPE))


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_single_data_point_is_reached_in_any_number_of_steps(steps: int):
    sigmas, point = karras_sigmas(steps), numbers(*SHAPE, seed=1)
    found = euler([lambda x, sigma: point], start(numbers(*SHAPE), sigmas), sigmas)
    torch.testing.assert_close(found, point, rtol=0, atol=1e-3)


def test_the_last_step_returns_the_denoised_latent():
    sigmas = torch.tensor([2.0, 0.0])
    x = numbers(*SHAPE)
    torch.testing.assert_close(euler([gaussian], x, sigmas), gaussian(x, 2.0))


def test_denoisers_take_turns_at_each_level_but_the_last():
    asked: list[tuple[str, float]] = []

    def named(name: str):
        def denoise(x: Tensor, sigma: float) -> Tensor:
            asked.append((name, sigma))
            return x

        return denoise

    sigmas = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])
    euler([named("backward"), named("forward")], numbers(*SHAPE), sigmas)
    assert asked == [("backward", 8.0), ("forward", 4.0), ("backward", 2.0), ("forward", 1.0)]


def test_on_step_is_called_after_each_step_in_order():
    calls: list[str] = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        calls.append(f"σ {sigma:g}")
        return x

    euler([denoise], numbers(*SHAPE), torch.tensor([4.0, 2.0, 0.0]), lambda n: calls.append(str(n)))
    assert calls == ["σ 4", "1", "σ 2", "2"]


def test_an_exception_in_on_step_ends_the_run():
    made: list[int] = []

    def stop(step: int) -> None:
        made.append(step)
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        euler([gaussian], numbers(*SHAPE), karras_sigmas(5), stop)
    assert made == [1, 2]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [1, 3])
def test_a_value_that_is_not_finite_names_the_step_and_its_noise_level(bad: float, step: int):
    sigmas, made = karras_sigmas(3), []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return x.clone().index_fill_(0, torch.tensor(2), bad) if len(made) == step - 1 else x

    with pytest.raises(
        DivergedError, match=rf"step {step} of 3 \(σ = {float(sigmas[step - 1]):.3g}"
    ):
        euler([denoise], numbers(*SHAPE), sigmas, made.append)
    assert made == list(range(1, step))


def test_the_input_latents_are_not_modified():
    x, sigmas = numbers(*SHAPE), karras_sigmas(3)
    euler([gaussian], x, sigmas)
    assert torch.equal(x, numbers(*SHAPE))


def order_matters(x: Tensor, sigma: float) -> Tensor:
    return x.cumsum(0) * sigma


@pytest.mark.parametrize("times", [1, 2, 3, 6])
def test_reversed_twice_in_time_is_as_it_was(times: int):
    x = numbers(*SHAPE)
    twice = reversed_in_time(reversed_in_time(order_matters, times), times)
    assert torch.equal(twice(x, 1.5), order_matters(x, 1.5))


def test_reversed_in_time_the_last_time_comes_first_and_views_keep_their_order():
    seen: list[list[int]] = []

    def look(x: Tensor, sigma: float) -> Tensor:
        seen.append(x[:, 0, 0, 0].int().tolist())
        return x

    x = torch.arange(6.0)[:, None, None, None].expand(SHAPE)  # 3 times of 2 views
    assert torch.equal(reversed_in_time(look, 3)(x, 1.0), x)
    assert seen == [[4, 5, 2, 3, 0, 1]]
