"""Held-out samples are the last ones of a pack and never change."""

import torch

from generation.training.dataset import GridDataset
from generation.training.held_out import HeldOut
from generation.training.training_choice import Selection
from tests.generation.training.toy_stage import SETTINGS


def test_they_and_their_draws_are_the_same_each_time(tiny_shards):
    dataset = GridDataset(tiny_shards, Selection(views=2, frames=2))
    first, second = (HeldOut(dataset, SETTINGS, torch.device("cpu")) for _ in range(2))
    assert list(first.samples.name) == dataset.names[-2:]
    assert torch.equal(first.samples.target["low"], second.samples.target["low"])
    assert torch.equal(first.draws().normal(5), first.draws().normal(5))
    assert first.draws().normal(5).shape == (2, 5)
