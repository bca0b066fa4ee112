"""Checkpoints of a generation are saved atomically and resumed only by the same generation."""

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

from generation.checkpoint import UNFINISHED, Checkpoint, check_folder, write_input
from recon.errors import InputError, OutputError, OutputExistsError
from tests.generation.models.random_weights import numbers
from tests.generation.tiny_networks import tiny_clip

IDENTITY: dict[str, Any] = {"clip": "abc", "settings": {"seed": 1, "azimuths_deg": (60.0, 120.0)}}
OTHER: dict[str, Any] = {"clip": "abc", "settings": {"seed": 2, "azimuths_deg": (60.0, 120.0)}}


def save(folder: Path, seed: int = 1) -> None:
    Checkpoint(folder, IDENTITY).save("grid", {"latents": numbers(5, 2, 4, seed=seed)}, {"n": seed})


def assert_saved(folder: Path, seed: int = 1) -> None:
    found = Checkpoint(folder, IDENTITY).load("grid")
    assert found is not None
    assert torch.equal(found.tensors["latents"], numbers(5, 2, 4, seed=seed))
    assert found.description["n"] == seed


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "grid")
    return tmp_path / "grid"


def state_file(folder: Path) -> Path:
    return folder / UNFINISHED / "grid.safetensors"


def test_a_state_is_restored_exactly_and_replaced(saved: Path):
    assert_saved(saved)
    save(saved, seed=2)
    assert_saved(saved, seed=2)
    assert list((saved / UNFINISHED).iterdir()) == [state_file(saved)]


def test_without_a_folder_nothing_is_saved():
    checkpoint = Checkpoint()
    checkpoint.save("grid", {"latents": numbers(2)}, {})
    assert checkpoint.load("grid") is None


def test_a_missing_state_is_none(saved: Path):
    assert Checkpoint(saved, IDENTITY).load("coarse") is None
    assert Checkpoint(saved / "absent", IDENTITY).load("grid") is None


def test_a_state_of_another_generation_is_refused_and_kept(saved: Path):
    with pytest.raises(OutputExistsError, match=r"settings\.seed was 1, is now 2"):
        Checkpoint(saved, OTHER).load("grid")
    assert_saved(saved)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.999])
def test_a_truncated_state_is_refused(saved: Path, share: float):
    path = state_file(saved)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match="damaged"):
        Checkpoint(saved, IDENTITY).load("grid")


KILLED = """
import json, os, signal, sys
from pathlib import Path
from generation.checkpoint import Checkpoint
from recon import resume

def half(tensors, path, metadata):
    Path(path).write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)

resume.save_file = half
Checkpoint(Path(sys.argv[1]), json.loads(sys.argv[2])).save("grid", {}, {})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
def test_a_killed_save_keeps_the_older_state_which_the_next_one_replaces(saved: Path):
    command = [sys.executable, "-c", KILLED, str(saved), json.dumps(IDENTITY)]
    found = subprocess.run(command, cwd=Path(__file__).parents[2])
    assert found.returncode == -signal.SIGKILL
    assert len(list((saved / UNFINISHED).iterdir())) == 2  # the half that was written
    check_folder(saved)
    assert_saved(saved)
    save(saved, seed=3)
    assert_saved(saved, seed=3)


def test_a_folder_that_is_absent_empty_or_unfinished_is_accepted(tmp_path: Path, saved: Path):
    check_folder(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty")
    check_folder(saved)


def test_a_folder_with_other_files_needs_overwrite(saved: Path):
    (saved / "notes.txt").touch()
    with pytest.raises(OutputExistsError):
        check_folder(saved)
    check_folder(saved, overwrite=True)


def test_an_unfinished_folder_with_other_files_needs_overwrite(tmp_path: Path):
    (tmp_path / "grid" / UNFINISHED).mkdir(parents=True)
    (tmp_path / "grid" / UNFINISHED / "thesis.txt").write_text("precious")
    with pytest.raises(OutputExistsError):
        check_folder(tmp_path / "grid")


def test_a_file_is_refused(tmp_path: Path):
    (tmp_path / "grid").touch()
    with pytest.raises(OutputError, match="is a file"):
        check_folder(tmp_path / "grid")


def test_a_state_is_discarded_if_it_is_damaged_or_of_another_generation(saved: Path):
    Checkpoint(saved, IDENTITY).discard_other()
    assert_saved(saved)
    Checkpoint(saved, OTHER).discard_other()
    assert not (saved / UNFINISHED).exists()
    Checkpoint(saved, OTHER).discard_other()
    save(saved)
    state_file(saved).write_bytes(os.urandom(1000))
    Checkpoint(saved, IDENTITY).discard_other()
    assert not (saved / UNFINISHED).exists()


def test_the_prepared_input_is_written_beside_the_state(saved: Path):
    clip = tiny_clip()
    place = write_input(saved, clip)
    assert write_input(saved, clip) == place  # a second time replaces it
    images = [np.asarray(Image.open(path)) for path in sorted(place.glob("t*.png"))]
    assert np.array_equal(np.asarray(images)[..., 3], clip.images[..., 3])
    assert_saved(saved)
    check_folder(saved)
