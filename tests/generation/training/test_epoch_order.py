"""Each epoch visits each sample once, over all ranks together, and goes on where it was left."""

import pytest

from generation.training.epoch_order import EpochSampler, Item, epoch_order
from recon.errors import InputError


def numbers(sampler: EpochSampler) -> list[int]:
    return [item.number for item in sampler]


def test_an_epoch_is_an_order_of_all_samples_that_seed_and_epoch_decide():
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
    with pytest.raises(InputError, match="2 samples cannot be shared by 3"):
        EpochSampler(2, world_size=3)


def test_training_goes_on_where_it_was_left_twice():
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


def test_training_goes_on_with_another_number_of_ranks():
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
        with pytest.raises(InputError, match="train on the same pack"):
            other.load_state_dict(state)
