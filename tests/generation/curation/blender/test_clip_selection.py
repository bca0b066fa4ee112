import pytest

from generation.curation.blender.clip_selection import is_lying, select_clips
from generation.curation.blender.request import Clip


def selected(count: int, **motions: float) -> list[str]:
    """Return the names of the selected clips, given the motion of each."""
    measured = [Clip(name, 1.0, motion, 0.0) for name, motion in motions.items()]
    return [measured[index].name for index in select_clips(measured, count)]


def test_clips_are_evenly_spaced_from_the_one_with_the_most_motion_on():
    motions = {"a": 0.02, "b": 0.5, "c": 0.1, "d": 0.3, "e": 0.2}
    assert selected(1, **motions) == ["b"]
    assert selected(2, **motions) == ["b", "a"]
    assert selected(3, **motions) == ["b", "e", "a"]
    assert selected(9, **motions) == ["b", "d", "e", "c", "a"]


def test_the_order_of_the_clips_in_the_file_has_no_effect():
    assert selected(2, x=0.1, y=0.1, z=0.2) == selected(2, z=0.2, y=0.1, x=0.1) == ["z", "y"]


def test_lying_and_still_clips_are_selected_only_if_there_are_no_others():
    assert selected(3, Death=0.9, Walk=0.2, Idle=0.005) == ["Walk"]
    assert selected(3, Death=0.9, Idle=0.005, Pose=0.0) == ["Idle"]
    assert selected(3, Death=0.9, Sleep=0.2, Pose=0.0) == ["Death", "Sleep"]


def test_travel_counts_as_motion_if_nothing_else_moves():
    measured = [Clip("still", 1.0, 0.0, 0.0), Clip("drive", 1.0, 0.0, 2.0)]
    assert select_clips(measured, 2) == [1]


@pytest.mark.parametrize(
    "name",
    ["Death", "Armature|Death_A", "DEATH", "Man_Death", "PlayDead", "lay_to_idle", "Sleep", "die",
     "Sitting_dies.001", "Death01", "LayDown", "armature|Lying|layer"],
)  # fmt: skip
def test_names_with_a_word_of_lying_or_dying_are_found(name):
    assert is_lying(name)


@pytest.mark.parametrize(
    "name",
    [
        "Play",
        "Armature|Walk|baseLayer",
        "Display",
        "Deadlift",
        "Believe",
        "Fall",
        "Soldier",
        "Idle",
    ],
)
def test_names_that_only_contain_the_letters_are_not(name):
    assert not is_lying(name)
