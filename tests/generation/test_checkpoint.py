"""A generation that was interrupted finds what was saved last, and nothing else."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from generation import checkpoint
from generation.checkpoint import (
    STATE,
    UNFINISHED,
    State,
    check_folder,
    discard_other,
    load_state,
    save_state,
    write_input,
)
from recon.errors import InputError, OutputError, OutputExistsError
from tests.generation.models.random_weights import numbers
from tests.generation.tiny_networks import tiny_clip

IDENTITY: dict[str, Any] = {"clip": "abc", "settings": {"seed": 1, "azimuths_deg": (60.0, 120.0)}}
OTHER: dict[str, Any] = {"clip": "abc", "settings": {"seed": 2, "azimuths_deg": (60.0, 120.0)}}


def state(passes: int = 1, orbit: bool = True) -> State:
    made = torch.arange(5) < 2 * passes
    return State(
        numbers(5, 2, 4, 3, 3, seed=passes),
        made,
        numbers(2, 3, 24, 24) if orbit else None,
        passes,
        {"load": 0.1, "sample": 1 / 3},
    )


def assert_same(found: State | None, expected: State) -> None:
    assert found is not None
    assert torch.equal(found.latents, expected.latents)
    assert torch.equal(found.made, expected.made)
    assert found.made.dtype == torch.bool
    assert (found.orbit is None) == (expected.orbit is None)
    if found.orbit is not None and expected.orbit is not None:
        assert torch.equal(found.orbit, expected.orbit)
    assert (found.passes, found.seconds) == (expected.passes, expected.seconds)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a state."""
    save_state(tmp_path, state(), IDENTITY)
    return tmp_path


@pytest.mark.parametrize("orbit", [True, False])
@pytest.mark.parametrize("passes", [0, 2])
def test_a_state_comes_back_to_the_bit(tmp_path: Path, orbit: bool, passes: int):
    save_state(tmp_path, state(passes, orbit), IDENTITY)
    assert_same(load_state(tmp_path, IDENTITY), state(passes, orbit))
    assert [path.name for path in (tmp_path / UNFINISHED).iterdir()] == [STATE]


def test_latents_of_any_memory_format_come_back(tmp_path: Path):
    made = state()
    made.latents = made.latents.transpose(3, 4)
    save_state(tmp_path, made, IDENTITY)
    assert_same(load_state(tmp_path, IDENTITY), made)


def test_the_last_saved_state_is_found_and_the_file_may_be_replaced_while_it_is_in_use(
    saved: Path,
):
    first = load_state(saved, IDENTITY)
    save_state(saved, state(2), IDENTITY)
    assert_same(load_state(saved, IDENTITY), state(2))
    assert_same(first, state(1))


def test_nothing_saved_is_no_state(tmp_path: Path):
    assert load_state(tmp_path, IDENTITY) is None
    assert load_state(tmp_path / "absent", IDENTITY) is None


def test_a_state_of_another_run_is_refused_and_kept(saved: Path):
    with pytest.raises(OutputExistsError, match=r"other settings.*--overwrite"):
        load_state(saved, OTHER)
    assert_same(load_state(saved, IDENTITY), state())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.5, 0.999])
def test_a_truncated_state_is_refused(saved: Path, share: float):
    path = saved / UNFINISHED / STATE
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"damaged.*--overwrite"):
        load_state(saved, IDENTITY)


def test_a_file_of_something_else_is_refused(saved: Path):
    path = saved / UNFINISHED / STATE
    for data in (b"\0" * 1000, os.urandom(1000), b"{}"):
        path.write_bytes(data)
        with pytest.raises(InputError, match="damaged"):
            load_state(saved, IDENTITY)


def notes_of(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]


@pytest.mark.parametrize("missing", ["latents", "made", "passes", "seconds", "identity", "all"])
def test_a_state_that_lacks_something_is_refused(saved: Path, missing: str):
    path = saved / UNFINISHED / STATE
    tensors, notes = load_file(path), notes_of(path)
    tensors.pop(missing, None)
    notes.pop(missing, None)
    save_file(tensors, path, None if missing == "all" else notes)
    with pytest.raises(InputError, match="damaged"):
        load_state(saved, IDENTITY)


def test_notes_that_are_not_json_are_refused(saved: Path):
    path = saved / UNFINISHED / STATE
    save_file(load_file(path), path, notes_of(path) | {"seconds": "{"})
    with pytest.raises(InputError, match="damaged"):
        load_state(saved, IDENTITY)


@pytest.mark.parametrize("end", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_a_save_that_ends_early_keeps_the_older_state_and_leaves_nothing(
    saved: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
):
    def half(tensors: dict, path: Path, notes: dict) -> None:
        save_file(tensors, path, notes)
        os.truncate(path, path.stat().st_size // 2)
        raise end

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(type(end)):
        save_state(saved, state(2), IDENTITY)
    assert_same(load_state(saved, IDENTITY), state(1))
    assert [path.name for path in (saved / UNFINISHED).iterdir()] == [STATE]


KILLED = """
import json, os, signal, sys
from pathlib import Path
from generation import checkpoint

def half(tensors, path, notes):
    Path(path).write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_file = half
folder, identity = Path(sys.argv[1]), json.loads(sys.argv[2])
checkpoint.save_state(folder, checkpoint.load_state(folder, identity), identity)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
def test_a_save_that_is_killed_keeps_the_older_state_which_the_next_replaces(saved: Path):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, str(saved), json.dumps(IDENTITY)]
    found = subprocess.run(command, cwd=root)
    assert found.returncode == -signal.SIGKILL
    assert len(list((saved / UNFINISHED).iterdir())) == 2  # the half that was written
    check_folder(saved)
    assert_same(load_state(saved, IDENTITY), state(1))
    save_state(saved, state(3), IDENTITY)
    assert_same(load_state(saved, IDENTITY), state(3))


def test_a_folder_that_is_absent_empty_or_unfinished_may_be_filled(tmp_path: Path, saved: Path):
    check_folder(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty")
    (tmp_path / "empty").rmdir()
    check_folder(saved)


def test_a_folder_with_something_else_in_it_is_kept_unless_it_may_be_overwritten(saved: Path):
    (saved / "notes.txt").touch()
    with pytest.raises(OutputExistsError):
        check_folder(saved)
    check_folder(saved, overwrite=True)


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "grid").touch()
    with pytest.raises(OutputError, match="is a file"):
        check_folder(tmp_path / "grid")


def test_a_state_of_another_run_or_a_damaged_one_is_discarded_and_ones_own_is_not(saved: Path):
    discard_other(saved, IDENTITY)
    assert_same(load_state(saved, IDENTITY), state())
    discard_other(saved, OTHER)
    assert not (saved / UNFINISHED).exists()
    discard_other(saved, OTHER)
    save_state(saved, state(), IDENTITY)
    (saved / UNFINISHED / STATE).write_bytes(b"")
    discard_other(saved, IDENTITY)
    assert not (saved / UNFINISHED).exists()


def test_the_prepared_input_can_be_looked_at_beside_the_state(saved: Path):
    clip = tiny_clip()
    place = write_input(saved, clip)
    assert write_input(saved, clip) == place  # a second time replaces it
    images = [np.asarray(Image.open(path)) for path in sorted(place.glob("t*.png"))]
    assert np.array_equal(np.asarray(images)[..., 3], clip.images[..., 3])
    assert_same(load_state(saved, IDENTITY), state())
    check_folder(saved)


def test_a_folder_of_the_same_name_with_something_else_in_it_is_not_ours(tmp_path: Path):
    (tmp_path / "grid" / "unfinished").mkdir(parents=True)
    (tmp_path / "grid" / "unfinished" / "thesis.txt").write_text("precious")
    with pytest.raises(OutputExistsError):
        check_folder(tmp_path / "grid")
