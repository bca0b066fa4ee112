"""A checkpoint is whole or not there, and goes only with the training it is of."""

from pathlib import Path

import pytest
import torch

from generation.training import checkpoints
from generation.training.checkpoints import (
    GROUPS,
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from recon.errors import InputError

IDENTITY = {"stage": "base", "base": {"width": 3, "sizes": ("low",)}, "engine": {"batch": 2}}


def checkpoint(step: int) -> Checkpoint:
    tensors = {group: {"a.b": torch.full((2, 3), step + i / 4)} for i, group in enumerate(GROUPS)}
    return Checkpoint(step, tensors, {"n": 5, "seed": 0, "epoch": 1, "begin": 2}, IDENTITY, 4, 1.5)


def names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


def test_what_is_read_is_what_was_written(tmp_path):
    place = save_checkpoint(tmp_path, checkpoint(7))
    found = load_checkpoint(place, IDENTITY)
    assert (found.step, found.replaced, found.seconds) == (7, 4, 1.5)
    assert found.order == checkpoint(7).order
    for group in GROUPS:
        assert torch.equal(found.tensors[group]["a.b"], checkpoint(7).tensors[group]["a.b"])
    assert {path.suffix for path in place.iterdir()} == {".json", ".safetensors"}


def test_the_newest_two_stay(tmp_path):
    for step in (9, 10, 100_000_000, 99):
        save_checkpoint(tmp_path, checkpoint(step))
    assert names(tmp_path) == ["step_00000099", "step_100000000"]


def test_one_that_is_cut_short_leaves_those_before(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, checkpoint(1))

    def fail(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(checkpoints, "write_json", fail)
        save_checkpoint(tmp_path, checkpoint(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    load_checkpoint(tmp_path / "step_00000001", IDENTITY)


def test_leftovers_of_a_killed_process_are_no_checkpoints_and_vanish(tmp_path):
    leftover = tmp_path / ".step_00000002.partial-0a1b"
    leftover.mkdir()
    (leftover / "weights.safetensors").write_bytes(b"half")
    assert names(tmp_path) == []
    save_checkpoint(tmp_path, checkpoint(3))
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000003"]


def test_one_of_another_training_says_all_that_differs(tmp_path):
    place = save_checkpoint(tmp_path, checkpoint(1))
    other = {"stage": "fine", "fine": {"width": 3}, "engine": {"batch": 8}}
    with pytest.raises(InputError) as found:
        load_checkpoint(place, other)
    for part in (
        "stage is 'base' there, 'fine' here",
        "base.width is 3 there, None here",
        "fine.width is None there, 3 here",
        "engine.batch is 2 there, 8 here",
    ):
        assert part in str(found.value)
    assert str(found.value).count("there") == 5


@pytest.mark.parametrize("name", ["state.json", "optimizer.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]"])
def test_a_damaged_one_is_told(tmp_path, name, content):
    place = save_checkpoint(tmp_path, checkpoint(1))
    (place / name).unlink()
    if content is not None:
        (place / name).write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged .* remove it"):
        load_checkpoint(place, IDENTITY)
