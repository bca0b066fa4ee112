"""A folder is that of one training, or it is left alone."""

import json

import pytest

from generation.training.run_folder import (
    RunFolder,
    begin_run,
    check_run_folder,
    identity_of,
)
from recon.errors import InputError
from tests.generation.training.toy_stage import SETTINGS, ToyStage

IDENTITY = identity_of(ToyStage(), SETTINGS)


def test_a_training_may_go_on_in_its_own_folder(tmp_path):
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
        (json.dumps({"format": "fourdvd-training", "version": 2, "identity": {}}), "version 1"),
    ],
)
def test_a_configuration_that_is_none_of_ours_is_told(tmp_path, content, sentence):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=sentence):
        check_run_folder(RunFolder(tmp_path), IDENTITY, overwrite=False)
