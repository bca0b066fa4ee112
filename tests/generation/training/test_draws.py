"""Random numbers of a sample do not depend on how a batch is shared."""

import torch

from generation.training import draws as drawing
from generation.training.draws import Draws


def test_a_sample_keeps_its_numbers_however_the_batch_is_cut():
    whole = Draws(5, 7, range(6))
    parts = [Draws(5, 7, [0, 2, 4]), Draws(5, 7, [1, 3, 5])]
    for draw in (
        lambda draws: draws.normal(3, 2),
        lambda draws: draws.uniform(),
        lambda draws: draws.permutation(4),
    ):
        expected, found = draw(whole), [draw(part) for part in parts]
        assert torch.equal(expected[::2], found[0])
        assert torch.equal(expected[1::2], found[1])


def test_several_threads_draw_the_same_numbers(monkeypatch):
    alone = Draws(5, 7, range(6))
    expected = [alone.normal(3, 2), alone.uniform(), alone.permutation(4)]
    monkeypatch.setattr(drawing, "MANY", 1)
    shared = Draws(5, 7, range(6))
    found = [shared.normal(3, 2), shared.uniform(), shared.permutation(4)]
    assert all(map(torch.equal, found, expected))


def test_seeds_steps_and_places_have_numbers_of_their_own():
    triples = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    numbers = {float(Draws(seed, step, [place]).uniform()) for seed, step, place in triples}
    assert len(numbers) == 4


def test_numbers_go_on_within_a_step_and_are_as_they_should_be():
    draws = Draws(0, 0, range(4))
    first = draws.normal(5000)
    assert not torch.equal(first, draws.normal(5000))
    torch.testing.assert_close(first.mean(1), torch.zeros(4), atol=0.06, rtol=0)
    torch.testing.assert_close(first.std(1), torch.ones(4), atol=0.06, rtol=0)
    uniform = draws.uniform(5000)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert draws.permutation(7).sort(1).values.tolist() == [list(range(7))] * 4
    assert len(draws) == 4
