"""The folder of a training: identity, checkpoints and log."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from generation.training.run_folder import (
    Checkpoint,
    RunFolder,
    TrainingLog,
    begin_run,
    check_run_folder,
    identity_of,
    list_checkpoints,
    load_checkpoint,
    read_log,
    save_checkpoint,
)
from recon import resume
from recon.errors import InputError, OutputExistsError
from tests.generation.training.toy_stage import SETTINGS, ToyStage

IDENTITY = identity_of(ToyStage(), SETTINGS)


def test_a_training_resumes_in_its_own_folder(tmp_path):
    folder = RunFolder(tmp_path / "out")
    check_run_folder(folder, IDENTITY, overwrite=False)
    begin_run(folder, ToyStage(), SETTINGS, [tmp_path], overwrite=False)
    (folder.path / "log.jsonl").write_text("kept")
    check_run_folder(folder, IDENTITY, overwrite=False)
    begin_run(folder, ToyStage(), SETTINGS, [tmp_path], overwrite=False)
    assert (folder.path / "log.jsonl").read_text() == "kept"
    begin_run(folder, ToyStage(), SETTINGS, [tmp_path], overwrite=True)
    assert [path.name for path in folder.path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        (json.dumps({"format": "other", "version": 1, "identity": {}}), "fourdvd-training"),
        (json.dumps({"format": "fourdvd-training", "version": 1, "identity": {}}), "older version"),
        (json.dumps({"format": "fourdvd-training", "version": 3, "identity": {}}), "version 2"),
    ],
)
def test_a_config_json_of_another_format_is_refused(tmp_path, content, sentence):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=sentence):
        check_run_folder(RunFolder(tmp_path), IDENTITY, overwrite=False)


SAVED = {"stage": "base", "base": {"width": 3, "sizes": ("low",)}, "engine": {"batch_size": 2}}


def checkpoint(step: int) -> Checkpoint:
    tensors = {name: torch.full((2, 3), step + i / 4) for i, name in enumerate(("ema/a", "b"))}
    return Checkpoint(step, tensors, {"n": 5, "seed": 0, "epoch": 1, "begin": 2}, SAVED, 4, 1.5)


def names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    place = save_checkpoint(tmp_path, checkpoint(7))
    found = load_checkpoint(place, SAVED)
    assert (found.step, found.replaced, found.seconds) == (7, 4, 1.5)
    assert found.order == checkpoint(7).order
    assert found.tensors.keys() == checkpoint(7).tensors.keys()
    for name, tensor in checkpoint(7).tensors.items():
        assert torch.equal(found.tensors[name], tensor)


def test_the_newest_two_checkpoints_are_kept(tmp_path):
    for step in (9, 10, 100_000_000, 99):
        save_checkpoint(tmp_path, checkpoint(step))
    assert names(tmp_path) == ["step_00000099.safetensors", "step_100000000.safetensors"]


def test_an_interrupted_save_keeps_the_older_checkpoints(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, checkpoint(1))

    def fail(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(resume, "save_tensors", fail)
        save_checkpoint(tmp_path, checkpoint(2))
    assert names(tmp_path) == [path.name for path in tmp_path.iterdir()]
    load_checkpoint(tmp_path / "step_00000001.safetensors", SAVED)


def test_partial_files_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".step_00000002.safetensors.partial-0a1b").write_bytes(b"half")
    assert names(tmp_path) == []
    save_checkpoint(tmp_path, checkpoint(3))
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000003.safetensors"]


def test_a_checkpoint_of_another_training_names_the_differences(tmp_path):
    place = save_checkpoint(tmp_path, checkpoint(1))
    other = {"stage": "fine", "fine": {"width": 3}, "engine": {"batch_size": 8}}
    with pytest.raises(OutputExistsError) as found:
        load_checkpoint(place, other)
    for part in ("stage was 'base'", "base.width was 3", "engine.batch_size was 2"):
        assert part in str(found.value)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    place = save_checkpoint(tmp_path, checkpoint(1))
    whole = place.read_bytes()
    for content in (b"", b"{}", whole[:-5], whole.replace(b"seconds", b"sekonds")):
        place.write_bytes(content)
        with pytest.raises(InputError, match="step_00000001"):
            load_checkpoint(place, SAVED)


def test_log_lines_after_the_checkpoint_are_removed(tmp_path):
    first = TrainingLog(RunFolder(tmp_path))
    for step in range(1, 6):
        first.write(step, {"loss": 1 / step})
    first.close()
    second = TrainingLog(RunFolder(tmp_path), step=3)
    second.write(4, {"loss": 0.5})
    assert [(record["step"], record["loss"]) for record in read_log(tmp_path)] == [
        (1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.5),
    ]  # fmt: skip


def test_an_incomplete_log_line_is_ignored(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    TrainingLog(RunFolder(tmp_path), step=2).write(2, {"loss": 1.0})
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [2.0, 1.0]


def test_a_training_without_a_log_has_no_lines(tmp_path):
    assert read_log(tmp_path) == []


def test_numbers_that_are_not_finite_are_not_logged(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        TrainingLog(RunFolder(tmp_path)).write(1, {"loss": math.nan})
    assert read_log(tmp_path) == []


def test_values_are_written_to_tensorboard_if_it_is_installed(tmp_path, monkeypatch):
    drawn = []

    class Writer:
        def __init__(self, folder, purge_step):
            drawn.append((Path(folder), purge_step))

        def add_scalar(self, *arguments):
            drawn.append(arguments)

        def close(self):
            drawn.append("closed")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(
        sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer)
    )
    log = TrainingLog(RunFolder(tmp_path), step=2)
    log.write(3, {"loss": 0.5})
    log.close()
    assert drawn == [(tmp_path / "tensorboard", 3), ("loss", 0.5, 3), "closed"]
