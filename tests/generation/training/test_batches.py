"""Batches are the same ones on any number of processes, and go on where they were left."""

from dataclasses import replace
from itertools import islice

import pytest

from generation.training.batches import Batches
from generation.training.dataset import GridDataset
from generation.training.training_choice import Selection
from recon.errors import InputError
from tests.generation.training.toy_stage import SETTINGS

FOUR = replace(SETTINGS, batch=4, held_out=1)


@pytest.fixture
def dataset(tiny_shards) -> GridDataset:
    return GridDataset(tiny_shards, Selection(views=2, frames=2))


def steps(batches: Batches, count: int) -> list[dict[int, str]]:
    """For each step, names of the samples by place."""
    return [
        {
            place: name
            for piece in pieces
            for place, name in zip(piece.places, piece.samples.name, strict=True)
        }
        for pieces in islice(batches, count)
    ]


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 2), (1, 4), (2, 1), (2, 2), (4, 1)])
def test_processes_and_pieces_share_the_same_batches(dataset, processes, accumulate):
    expected = steps(Batches(dataset, FOUR), 7)
    settings = replace(FOUR, accumulate=accumulate)
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
def test_they_go_on_where_they_were_left(dataset, used, processes):
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
    settings = replace(FOUR, batch=3, workers=1)
    assert steps(Batches(dataset, settings), 5) == steps(
        Batches(dataset, replace(settings, workers=0)), 5
    )


def test_a_batch_that_cannot_be_made_is_told(dataset):
    with pytest.raises(InputError, match="more than the 9 that are packed"):
        Batches(dataset, replace(FOUR, batch=8, held_out=2))
    with pytest.raises(InputError, match="choose a multiple of 6"):
        Batches(dataset, replace(FOUR, accumulate=3), 0, 2)
