"""A sharded network (FSDP) trains, is evaluated and saved as an unsharded one.

accelerate shards on GPUs only, so a stand-in for it shards on one CPU process here.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any, cast

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from generation.training.batches import Batches, HeldOut, MicroBatch
from generation.training.cascade_stages import CoarseStage, FineStage
from generation.training.dataset import GridDataset
from generation.training.optimization import EMA, Optimization
from generation.training.processes import distribute_like, fill, gather, started_processes
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE
from tests.generation.training.tiny_stages import COARSE, FINE
from tests.generation.training.toy_stage import SETTINGS, ToyStage


class Sharding:
    """Stand-in for accelerate's interface, based on PyTorch's FSDP."""

    device, num_processes = torch.device("cpu"), 1

    def prepare(self, model, optimizer):
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        trained = [each for each in model.parameters() if each.requires_grad]
        optimizer.param_groups[0]["params"] = trained
        return model, optimizer

    def accumulate(self, model):
        return nullcontext()

    def backward(self, loss):
        loss.backward()

    def clip_grad_norm_(self, parameters, limit):
        return torch.nn.utils.clip_grad_norm_(parameters, limit)

    def reduce(self, tensor, how):
        return tensor


@pytest.fixture
def group(tmp_path) -> Iterator[None]:
    """A process group of a single process."""
    place = f"file://{tmp_path / 'store'}"
    distributed.init_process_group("gloo", init_method=place, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture
def dataset(tiny_shards) -> GridDataset:
    return GridDataset(tiny_shards, ToyStage().sampling)


@pytest.fixture
def batches(dataset) -> list[list[MicroBatch]]:
    return list(islice(Batches(dataset, SETTINGS), 6))


def sharded() -> Optimization:
    return Optimization(ToyStage(), SETTINGS, cast(Any, Sharding()))


def test_losses_metrics_and_weights_are_those_of_an_unsharded_network(group, dataset, batches):
    stage = ToyStage()
    ours = Optimization(stage, SETTINGS, cast(Any, Sharding()))
    assert all(isinstance(each, DTensor) for each in ours.parameters.values())
    held_out = HeldOut(dataset, SETTINGS, torch.device("cpu"))
    with started_processes(SETTINGS) as accelerator:
        theirs = Optimization(ToyStage(), SETTINGS, accelerator)
        for pieces in batches:
            assert ours.step_once(pieces).losses == pytest.approx(theirs.step_once(pieces).losses)
    found = ours.with_ema(stage.evaluate, held_out.samples, held_out.rng())
    plain = ToyStage()
    plain.module.load_state_dict(theirs.ema_weights(), strict=False)
    with torch.no_grad():
        assert found == pytest.approx(plain.evaluate(held_out.samples, held_out.rng()))


def test_a_sharded_network_resumes_from_complete_tensors(group, batches):
    whole_run = sharded()
    expected = [whole_run.step_once(pieces).losses for pieces in batches]
    first, second = sharded(), sharded()
    for pieces in batches[:3]:
        first.step_once(pieces)
    tensors = first.state_dict()
    assert not any(isinstance(each, DTensor) for each in tensors.values())
    second.load_state_dict(3, tensors)
    assert [second.step_once(pieces).losses for pieces in batches[3:]] == expected[3:]


def test_fill_inverts_gather_for_sharded_tensors(group):
    weight = sharded().parameters["weight"]
    numbers = torch.arange(9.0).view(3, 3)
    fill(weight, numbers)
    assert torch.equal(gather(weight), numbers)
    moment = distribute_like(numbers + 1, weight)
    assert isinstance(moment, DTensor)
    assert torch.equal(gather(moment), numbers + 1)


@pytest.mark.parametrize("file", [LORA_FILE, BRANCH_FILE])
def test_a_sharded_lora_or_branch_is_written_whole(group, tiny_vae, tiny_base, tmp_path, file):
    stage = (
        CoarseStage(COARSE, tiny_vae, tiny_base)
        if file == LORA_FILE
        else FineStage(FINE, tiny_vae, tiny_base)
    )
    for name in ("whole", "sharded"):
        (tmp_path / name).mkdir()
    stage.save(tmp_path / "whole", {}, cast(Any, None), torch.float32)
    fully_shard(stage.module, mesh=init_device_mesh("cpu", (1,)))
    assert all(isinstance(each, DTensor) for each in stage.module.parameters())
    stage.save(tmp_path / "sharded", {}, cast(Any, None), torch.float32)
    whole, sharded = ((tmp_path / name / file).read_bytes() for name in ("whole", "sharded"))
    assert sharded == whole


def test_shards_have_a_moving_average(group):
    parameters = sharded().parameters
    average = EMA(parameters, decay=0.5)
    fill(parameters["weight"], torch.ones(3, 3))
    fill(average.tensors["weight"], torch.zeros(3, 3))
    average.update(100)
    with average.applied():
        assert torch.equal(gather(parameters["weight"]), torch.full((3, 3), 0.5))
    assert torch.equal(gather(parameters["weight"]), torch.ones(3, 3))
