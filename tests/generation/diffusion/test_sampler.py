"""Euler's method on flows whose end is known."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from generation.diffusion.sampler import euler, reversed_in_time, start
from generation.diffusion.schedule import SIGMA_MAX, karras_sigmas
from recon.errors import DivergedError
from tests.generation.models.random_weights import numbers

SHAPE = (6, 4, 2, 2)
MEAN, DEVIATION = 0.7, 0.5


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """The denoiser of data with a normal distribution: the posterior's mean."""
    variance = DEVIATION**2
    return (variance * x + sigma**2 * MEAN) / (variance + sigma**2)


def flow_of_gaussian(x: Tensor, sigma: float) -> Tensor:
    """Where the flow of that denoiser leads: the distance from the mean shrinks like √(s² + σ²)."""
    return MEAN + (x - MEAN) * DEVIATION / math.sqrt(DEVIATION**2 + sigma**2)


def end_error(steps: int) -> float:
    sigmas = karras_sigmas(steps)
    x = start(numbers(*SHAPE, dtype=torch.float64), sigmas)
    found = euler([gaussian], x, sigmas)
    return float((found - flow_of_gaussian(x, SIGMA_MAX)).abs().max())


def test_normal_data_are_reached_and_twice_the_steps_halve_the_error():
    """The method is of first order."""
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
def test_data_of_a_single_point_are_reached_in_any_number_of_steps(steps: int):
    sigmas, point = karras_sigmas(steps), numbers(*SHAPE, seed=1)
    found = euler([lambda x, sigma: point], start(numbers(*SHAPE), sigmas), sigmas)
    torch.testing.assert_close(found, point, rtol=0, atol=1e-3)


def test_the_last_step_is_what_the_denoiser_says():
    sigmas = torch.tensor([2.0, 0.0])
    x = numbers(*SHAPE)
    torch.testing.assert_close(euler([gaussian], x, sigmas), gaussian(x, 2.0))


def test_denoisers_take_turns_and_are_told_each_level_but_the_last():
    asked: list[tuple[str, float]] = []

    def named(name: str):
        def denoise(x: Tensor, sigma: float) -> Tensor:
            asked.append((name, sigma))
            return x

        return denoise

    sigmas = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])
    euler([named("backward"), named("forward")], numbers(*SHAPE), sigmas)
    assert asked == [("backward", 8.0), ("forward", 4.0), ("backward", 2.0), ("forward", 1.0)]


def test_every_step_is_told_after_it_was_made_and_in_order():
    told: list[str] = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        told.append(f"σ {sigma:g}")
        return x

    euler([denoise], numbers(*SHAPE), torch.tensor([4.0, 2.0, 0.0]), lambda n: told.append(str(n)))
    assert told == ["σ 4", "1", "σ 2", "2"]


def test_what_on_step_raises_ends_the_run():
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
def test_a_number_that_is_not_finite_names_the_step_and_its_noise(bad: float, step: int):
    sigmas, made = karras_sigmas(3), []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return x.clone().index_fill_(0, torch.tensor(2), bad) if len(made) == step - 1 else x

    with pytest.raises(
        DivergedError, match=rf"step {step} of 3 \(σ = {float(sigmas[step - 1]):.3g}"
    ):
        euler([denoise], numbers(*SHAPE), sigmas, made.append)
    assert made == list(range(1, step))


def test_the_latents_that_went_in_are_not_changed():
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
