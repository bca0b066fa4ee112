"""Order, batches and evaluation samples."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from generation.training.batches import Batches, EpochSampler, HeldOut, epoch_order
from generation.training.clip_sampling import SamplingConfig
from generation.training.dataset import GridDataset
from generation.training.samples import Item
from recon.errors import InputError
from tests.generation.training.toy_stage import SETTINGS


def numbers(sampler: EpochSampler) -> list[int]:
    return [item.number for item in sampler]


def test_seed_and_epoch_determine_the_order_of_an_epoch():
    orders = {(s, e): tuple(epoch_order(s, e, 50).tolist()) for s in range(3) for e in range(3)}
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    assert len(set(orders.values())) == 9
    assert orders[1, 2] == tuple(epoch_order(1, 2, 50).tolist())


def test_items_carry_their_epoch():
    sampler = EpochSampler(3, seed=1)
    sampler.set_epoch(7)
    assert sorted(sampler) == [Item(7, 0), Item(7, 1), Item(7, 2)]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_an_epoch_without_overlap(world_size):
    ranks = [numbers(EpochSampler(12, 5, rank, world_size)) for rank in range(world_size)]
    assert {len(rank) for rank in ranks} == {12 // world_size}
    assert sorted(number for rank in ranks for number in rank) == list(range(12))


def test_ranks_take_equally_many_steps_where_samples_cannot_be_shared_evenly():
    ranks = [numbers(EpochSampler(11, 5, rank, 3)) for rank in range(3)]
    assert [len(rank) for rank in ranks] == [3, 3, 3]
    assert len({number for rank in ranks for number in rank}) == 9
    with pytest.raises(InputError, match="3 processes, found 2"):
        EpochSampler(2, world_size=3)


def test_the_sampler_resumes_twice():
    whole = EpochSampler(20, seed=3)
    whole.set_epoch(2)
    first = EpochSampler(20, seed=3)
    first.load_state_dict(whole.state_dict(used=6))
    assert list(first) == list(whole)[6:]
    second = EpochSampler(20, seed=3)
    second.load_state_dict(first.state_dict(used=5))
    assert list(second) == list(whole)[11:]
    assert len(second) == 9
    second.set_epoch(3)
    assert len(second) == 20


def test_the_sampler_resumes_with_another_number_of_ranks():
    before = [EpochSampler(24, 1, rank, 2) for rank in range(2)]
    used = [number for sampler in before for number in numbers(sampler)[:3]]
    after = [EpochSampler(24, 1, rank, 3) for rank in range(3)]
    for sampler in after:
        sampler.load_state_dict(before[0].state_dict(used=3))
    rest = [number for sampler in after for number in numbers(sampler)]
    assert sorted(used + rest) == list(range(24))


def test_the_state_of_another_pack_is_refused():
    state = EpochSampler(20).state_dict(used=0)
    for other in (EpochSampler(21), EpochSampler(20, seed=1)):
        with pytest.raises(InputError, match="saved order"):
            other.load_state_dict(state)


FOUR = replace(SETTINGS, batch_size=4, held_out=1)


@pytest.fixture
def dataset(tiny_shards) -> GridDataset:
    return GridDataset(tiny_shards, SamplingConfig(views=2, frames=2))


def steps(batches: Batches, count: int) -> list[dict[int, str]]:
    """Return the names of the samples by position, for each step."""
    return [
        {
            place: name
            for piece in pieces
            for place, name in zip(piece.positions, piece.samples.name, strict=True)
        }
        for pieces in islice(batches, count)
    ]


@pytest.mark.parametrize(
    ("processes", "grad_accum_steps"), [(1, 2), (1, 4), (2, 1), (2, 2), (4, 1)]
)
def test_batches_are_the_same_for_any_number_of_processes_and_micro_batches(
    dataset, processes, grad_accum_steps
):
    expected = steps(Batches(dataset, FOUR), 7)
    settings = replace(FOUR, grad_accum_steps=grad_accum_steps)
    ranks = [steps(Batches(dataset, settings, rank, processes), 7) for rank in range(processes)]
    for step, whole in enumerate(expected):
        together = {place: name for rank in ranks for place, name in rank[step].items()}
        assert together == whole
        assert sorted(whole) == [0, 1, 2, 3]


def test_held_out_samples_are_in_none(dataset):
    seen = {name for step in steps(Batches(dataset, FOUR), 8) for name in step.values()}
    assert seen == set(dataset.names[:-1])


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("used", [1, 2, 3])
def test_batches_resume(dataset, used, processes):
    whole = steps(Batches(dataset, FOUR), 6)
    left = Batches(dataset, FOUR)
    steps(left, used)
    state = left.state_dict()
    ranks = []
    for rank in range(processes):
        again = Batches(dataset, FOUR, rank, processes)
        again.load_state_dict(state)
        ranks.append(steps(again, 6 - used))
    together = [
        {place: name for rank in step for place, name in rank.items()}
        for step in zip(*ranks, strict=True)
    ]
    assert together == whole[used:]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_workers_change_nothing(dataset):
    settings = replace(FOUR, batch_size=3, num_workers=1)
    assert steps(Batches(dataset, settings), 5) == steps(
        Batches(dataset, replace(settings, num_workers=0)), 5
    )


def test_an_impossible_batch_size_is_refused(dataset):
    with pytest.raises(InputError, match="found 9"):
        Batches(dataset, replace(FOUR, batch_size=8, held_out=2))
    with pytest.raises(InputError, match="multiple of 6"):
        Batches(dataset, replace(FOUR, grad_accum_steps=3), 0, 2)


def test_held_out_samples_and_their_random_numbers_are_constant(tiny_shards):
    dataset = GridDataset(tiny_shards, SamplingConfig(views=2, frames=2))
    first, second = (HeldOut(dataset, SETTINGS, torch.device("cpu")) for _ in range(2))
    assert list(first.samples.name) == dataset.names[-2:]
    assert torch.equal(first.samples.target["low"], second.samples.target["low"])
    assert torch.equal(first.rng().normal(5), first.rng().normal(5))
    assert first.rng().normal(5).shape == (2, 5)
