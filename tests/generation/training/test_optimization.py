"""Optimizer steps, their learning rate and the moving average."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from generation.training.batches import Batches
from generation.training.clip_sampling import SampleRng
from generation.training.config import EngineConfig
from generation.training.dataset import GridDataset, composite_on_white
from generation.training.optimization import EMA, Optimization, StepResult, learning_rate
from generation.training.processes import started_processes
from recon.errors import DivergedError, InputError
from tests.generation.training.toy_stage import SETTINGS, ToyStage

FOUR = replace(SETTINGS, batch_size=4, max_grad_norm=0.1, weight_decay=0.1)


@pytest.fixture
def dataset(tiny_shards) -> GridDataset:
    return GridDataset(tiny_shards, ToyStage().sampling)


def outcomes(stage: ToyStage, settings: EngineConfig, dataset, count: int) -> Iterator[StepResult]:
    with started_processes(settings) as accelerator:
        optimization = Optimization(stage, settings, accelerator)
        for pieces in islice(Batches(dataset, settings), count):
            yield optimization.step_once(pieces, (False, True))


def test_steps_agree_with_adamw_written_out_in_float64(dataset):
    stage = ToyStage()
    losses = [each.losses["loss"] for each in outcomes(stage, FOUR, dataset, 5)]
    expected, weights = plain_training(dataset, 5)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    found = torch.cat([stage.module.weight.flatten(), stage.module.bias]).detach()
    np.testing.assert_allclose(found, weights, atol=1e-5)


def plain_training(dataset: GridDataset, count: int) -> tuple[list[float], np.ndarray]:
    """Compute the toy stage's losses and weights in numpy, [3·3 + 3]."""
    toy = ToyStage().module
    W = toy.weight.detach().double().numpy().copy()
    b = np.zeros(3)
    first, second, losses = np.zeros(12), np.zeros(12), []
    for step, pieces in enumerate(islice(Batches(dataset, FOUR), count)):
        samples = pieces[0].samples
        x = composite_on_white(samples.target["low"]).rgb.double().mean((1, 2, 4, 5)).numpy()
        noisy = x + 0.3 * SampleRng(FOUR.seed, step, range(4)).normal(3).double().numpy()
        error = noisy @ W.T + b - x.mean(1, keepdims=True)
        losses.append(float((error**2).mean()))
        slope = 2 * error / error.size
        gradient = np.concatenate([(slope.T @ noisy).ravel(), slope.sum(0)])
        gradient *= min(1, FOUR.max_grad_norm / np.linalg.norm(gradient))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        unbiased = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
        weights, rate = np.concatenate([W.ravel(), b]), learning_rate(FOUR, step)
        weights = weights * (1 - rate * FOUR.weight_decay)
        weights -= rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        W, b = weights[:9].reshape(3, 3), weights[9:]
    return losses, np.concatenate([W.ravel(), b])


@pytest.mark.parametrize("grad_accum_steps", [2, 4])
def test_micro_batches_add_up_to_the_batch(dataset, grad_accum_steps):
    whole = list(outcomes(ToyStage(), FOUR, dataset, 5))
    pieces = list(
        outcomes(ToyStage(), replace(FOUR, grad_accum_steps=grad_accum_steps), dataset, 5)
    )
    for expected, found in zip(whole, pieces, strict=True):
        assert found.losses == pytest.approx(expected.losses, rel=1e-5)
        assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-5)
        assert found.control_flags == (0, 1)


def test_frozen_parameters_stay_and_are_not_in_checkpoints(dataset):
    stage = ToyStage()
    before = stage.frozen.weight.clone()
    with started_processes(FOUR) as accelerator:
        optimization = Optimization(stage, FOUR, accelerator)
        optimization.step_once(next(iter(Batches(dataset, FOUR))))
        tensors = optimization.state_dict()
    assert torch.equal(stage.frozen.weight, before)
    parts = ("weights/{}", "ema/{}", "optimizer/{}/step", "optimizer/{}/exp_avg")
    expected = {part.format(name) for part in parts for name in ("weight", "bias")}
    expected |= {f"optimizer/{name}/exp_avg_sq" for name in ("weight", "bias")}
    assert set(tensors) == expected


def test_a_checkpoint_of_another_network_is_refused():
    with started_processes(FOUR) as accelerator:
        tensors = Optimization(ToyStage(width=2), FOUR, accelerator).state_dict()
        with pytest.raises(InputError, match=r"tensors differ: .*bias"):
            Optimization(ToyStage(), FOUR, accelerator).load_state_dict(1, tensors)


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
    settings = EngineConfig(steps=10, warmup_steps=4, cooldown_steps=2, learning_rate=1.0)
    rates = [learning_rate(settings, step) for step in range(11)]
    assert rates == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 0.5, 0]
    level = EngineConfig(steps=10, warmup_steps=0, learning_rate=1.0)
    assert [learning_rate(level, step) for step in range(10)] == [1.0] * 10


def test_the_ema_agrees_with_its_formula_in_float64():
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    average = EMA({"w": parameter}, decay=0.5)
    expected = np.array([1.0, -2.0])
    for step in range(1, 12):
        with torch.no_grad():
            parameter.add_(torch.tensor([0.3, 0.7]))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameter.detach().double().numpy()
    np.testing.assert_allclose(average.tensors["w"], expected, rtol=1e-6)


def test_the_ema_is_applied_only_while_the_block_runs_even_if_it_fails():
    parameter = nn.Parameter(torch.zeros(2))
    average = EMA({"w": parameter}, decay=0.9)
    average.tensors["w"].fill_(3)
    with average.applied():
        assert parameter.tolist() == [3, 3]
    try:
        with average.applied():
            raise RuntimeError
    except RuntimeError:
        pass
    assert parameter.tolist() == [0, 0]
    assert average.tensors["w"].tolist() == [3, 3]


def test_the_cooldown_can_be_a_share_of_the_steps():
    settings = replace(SETTINGS, steps=100, warmup_steps=0, learning_rate=1.0)
    longer = replace(settings, cooldown_steps=10, cooldown_share=0.4)
    found = [learning_rate(longer, step) for step in (0, 60, 80, 99)]
    assert found == pytest.approx([1, 1, 0.5, 1 / 40])
    assert learning_rate(replace(longer, cooldown_steps=50), 60) == pytest.approx(0.8)
