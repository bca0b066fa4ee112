"""A step is AdamW's on the mean gradient, whatever pieces it comes in, and never a broken one."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from generation.training.batches import Batches
from generation.training.dataset import GridDataset, over_white
from generation.training.draws import Draws
from generation.training.optimisation import Optimisation, Outcome, learning_rate
from generation.training.processes import started_processes
from generation.training.settings import EngineSettings
from recon.errors import DivergedError, InputError
from tests.generation.training.toy_stage import SETTINGS, ToyStage

FOUR = replace(SETTINGS, batch=4, gradient_limit=0.1, weight_decay=0.1)


@pytest.fixture
def dataset(tiny_shards) -> GridDataset:
    return GridDataset(tiny_shards, ToyStage().selection)


def outcomes(stage: ToyStage, settings: EngineSettings, dataset, count: int) -> Iterator[Outcome]:
    with started_processes(settings) as accelerator:
        optimisation = Optimisation(stage, settings, accelerator)
        for pieces in islice(Batches(dataset, settings), count):
            yield optimisation.advance(pieces, (False, True))


def test_steps_agree_with_adamw_written_out_in_float64(dataset):
    stage = ToyStage()
    losses = [each.losses["loss"] for each in outcomes(stage, FOUR, dataset, 5)]
    expected, weights = plain_training(dataset, 5)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    found = torch.cat([stage.module.weight.flatten(), stage.module.bias]).detach()
    np.testing.assert_allclose(found, weights, atol=1e-5)


def plain_training(dataset: GridDataset, count: int) -> tuple[list[float], np.ndarray]:
    """The toy stage's losses and weights with nothing but numpy, [3·3 + 3]."""
    toy = ToyStage().module
    W = toy.weight.detach().double().numpy().copy()
    b = np.zeros(3)
    first, second, losses = np.zeros(12), np.zeros(12), []
    for step, pieces in enumerate(islice(Batches(dataset, FOUR), count)):
        samples = pieces[0].samples
        x = over_white(samples.target["low"]).rgb.double().mean((1, 2, 4, 5)).numpy()
        noisy = x + 0.3 * Draws(FOUR.seed, step, range(4)).normal(3).double().numpy()
        error = noisy @ W.T + b - x.mean(1, keepdims=True)
        losses.append(float((error**2).mean()))
        slope = 2 * error / error.size
        gradient = np.concatenate([(slope.T @ noisy).ravel(), slope.sum(0)])
        gradient *= min(1, FOUR.gradient_limit / np.linalg.norm(gradient))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        unbiased = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
        weights, rate = np.concatenate([W.ravel(), b]), learning_rate(FOUR, step)
        weights = weights * (1 - rate * FOUR.weight_decay)
        weights -= rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        W, b = weights[:9].reshape(3, 3), weights[9:]
    return losses, np.concatenate([W.ravel(), b])


@pytest.mark.parametrize("accumulate", [2, 4])
def test_pieces_of_a_batch_add_up_to_it(dataset, accumulate):
    whole = list(outcomes(ToyStage(), FOUR, dataset, 5))
    pieces = list(outcomes(ToyStage(), replace(FOUR, accumulate=accumulate), dataset, 5))
    for expected, found in zip(whole, pieces, strict=True):
        assert found.losses == pytest.approx(expected.losses, rel=1e-5)
        assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-5)
        assert found.wishes == (0, 1)


def test_what_is_frozen_stays_and_is_no_part_of_a_checkpoint(dataset):
    stage = ToyStage()
    before = stage.frozen.weight.clone()
    with started_processes(FOUR) as accelerator:
        optimisation = Optimisation(stage, FOUR, accelerator)
        optimisation.advance(next(iter(Batches(dataset, FOUR))))
        tensors = optimisation.tensors()
    assert torch.equal(stage.frozen.weight, before)
    assert set(tensors["weights"]) == set(tensors["average"]) == {"weight", "bias"}
    assert set(tensors["optimizer"]) == {
        f"{name}/{moment}"
        for name in ("weight", "bias")
        for moment in ("step", "exp_avg", "exp_avg_sq")
    }


def test_a_checkpoint_of_another_network_is_refused():
    with started_processes(FOUR) as accelerator:
        tensors = Optimisation(ToyStage(width=2), FOUR, accelerator).tensors()
        with pytest.raises(InputError, match=r"another network; tensors: .*bias"):
            Optimisation(ToyStage(), FOUR, accelerator).load(1, tensors)


def test_a_loss_that_is_not_finite_changes_no_weight(dataset):
    stage = ToyStage(diverges_at=2)
    steps = outcomes(stage, FOUR, dataset, 5)
    next(steps)
    before = stage.module.weight.detach().clone()
    with pytest.raises(DivergedError, match=r"step 2: the loss is nan .* checkpoint is kept"):
        next(steps)
    assert torch.equal(stage.module.weight, before)


def test_bfloat16_is_close_to_float32_and_leaves_weights_in_float32(dataset):
    stage = ToyStage()
    half = list(outcomes(stage, replace(FOUR, precision="bfloat16"), dataset, 4))
    full = list(outcomes(ToyStage(), FOUR, dataset, 4))
    assert stage.module.weight.dtype == torch.float32
    assert half[0].losses != full[0].losses
    for ours, theirs in zip(half, full, strict=True):
        assert ours.losses["loss"] == pytest.approx(theirs.losses["loss"], rel=0.05)


def test_the_learning_rate_rises_stays_and_falls():
    settings = EngineSettings(steps=10, warmup=4, cooldown=2, learning_rate=1.0)
    rates = [learning_rate(settings, step) for step in range(11)]
    assert rates == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 0.5, 0]
    level = EngineSettings(steps=10, warmup=0, learning_rate=1.0)
    assert [learning_rate(level, step) for step in range(10)] == [1.0] * 10
