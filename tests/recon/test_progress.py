"""The estimated time left follows the speed of the steps."""

import pytest

from recon import progress
from recon.progress import Eta, Progress, Whole


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_constant_speed_gives_the_exact_time_left(clock):
    eta = Eta(10, seconds_before=5.0)
    for _ in range(4):
        clock[0] += 2.0
        eta.tick()
    assert eta.seconds_left == pytest.approx(12.0)
    assert eta.seconds == pytest.approx(13.0)


def test_the_first_steps_have_equal_weight(clock):
    eta = Eta(4)
    for seconds in (100.0, 1.0, 3.0):
        clock[0] += seconds
        eta.tick()
    assert eta.seconds_per_step == pytest.approx(2.0, rel=0.02)


def after_steps(clock, *durations):
    """Return the estimate after steps of these durations in seconds."""
    eta = Eta(10_000)
    for seconds in durations:
        clock[0] += seconds
        eta.tick()
    return eta


def test_later_changes_of_speed_count_more(clock):
    eta = after_steps(clock, *[1.0] * 500, *[3.0] * 500)
    assert eta.seconds_per_step == pytest.approx(3.0, rel=0.01)


def test_nothing_is_estimated_before_the_first_step():
    assert Eta(10).seconds_left is None


def test_nothing_is_estimated_from_the_first_step_or_less_than_five_seconds(clock):
    eta = Eta(100)
    clock[0] += 60.0
    eta.tick()
    assert eta.seconds_left is None
    for _ in range(4):
        clock[0] += 1.1
        eta.tick()
        assert eta.seconds_left is None
    clock[0] += 1.1
    eta.tick()
    assert eta.seconds_left == pytest.approx(94 * 1.1)


def test_steps_of_known_cost_give_the_exact_time_left_before_they_become_slower(clock):
    eta = Eta(10 * 1.0 + 20 * 2.5)
    for _ in range(10):
        clock[0] += 1.0
        eta.tick(1.0)
    assert eta.seconds_left == pytest.approx(50.0)


def test_after_the_last_step_no_time_is_left(clock):
    eta = Eta(1)
    eta.tick()
    assert eta.seconds_left == 0.0


def test_a_pause_of_the_machine_hardly_changes_the_estimate_of_short_steps(clock):
    eta = after_steps(clock, *[0.01] * 3000, 0.5, *[0.01] * 50)
    assert eta.seconds_per_step == pytest.approx(0.01, rel=0.05)


def test_a_machine_that_stalls_for_a_minute_hardly_changes_the_estimate(clock):
    eta = after_steps(clock, *[0.01] * 3000, 60.0)
    assert eta.seconds_per_step == pytest.approx(0.01, rel=0.2)


def test_a_machine_that_stays_a_hundred_times_slower_is_followed(clock):
    eta = after_steps(clock, *[0.01] * 3000, *[1.0] * 300)
    assert eta.seconds_per_step == pytest.approx(1.0, rel=0.2)


def test_the_first_step_counts_until_there_is_a_second(clock):
    eta = Eta(3)
    clock[0] += 100.0
    eta.tick()
    assert eta.seconds_per_step == pytest.approx(100.0)
    clock[0] += 6.0
    eta.tick()
    assert eta.seconds_left == pytest.approx(6.0)


def test_parts_and_their_parts_are_steps_of_one_whole(clock):
    shown: list[Progress] = []
    whole = Whole({"reading": 1, "work": 3}, shown.append)
    inner = Whole({"first": 1, "second": 2}, whole.part("work"))
    for on_step, step in (
        (whole.part("reading"), Progress("half", 1, 2)),
        (inner.part("first"), Progress("unknown length", 5, None)),
        (inner.part("second"), Progress("begun", 0, 4)),
        (inner.part("second"), Progress("half", 2, 4)),
    ):
        clock[0] += 4.0
        on_step(step)
    whole.finish("done")
    assert [(step.phase, step.step) for step in shown] == [
        ("half", 12), ("unknown length", 25), ("begun", 49), ("half", 74), ("done", 100),
    ]  # fmt: skip
    assert {step.steps for step in shown} == {100}
    assert shown[3].seconds_left == pytest.approx(4.9, rel=0.05)
    assert shown[4].seconds_left == 0
