"""Saved states come back as they were, and only for the computation that they belong to."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from recon.errors import InputError, OutputExistsError
from recon.resume import (
    check_same,
    fingerprint,
    load_state,
    read_description,
    save_state,
    save_tensors,
)

TENSORS = {
    "b": torch.arange(6.0).reshape(2, 3).T,
    "a": torch.zeros(0),
    "c": torch.ones(3).half(),
}
METADATA = {"version": "1", "format": "kind", "config": '{"a": "ü\n\\"}', "scale": "0.1"}
KIND = {"format": "fourdvd-test", "version": "1"}


def test_the_bytes_of_a_tensor_file_depend_on_its_content_alone(tmp_path):
    path = tmp_path / "x.safetensors"
    contents = set()
    for _ in range(20):  # metadata has 24 orders
        save_tensors(path, TENSORS, METADATA)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_a_tensor_file_holds_what_was_saved(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, METADATA)
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == TENSORS.keys()
        assert file.metadata() == METADATA
        for name, tensor in TENSORS.items():
            found = file.get_tensor(name)
            assert found.dtype == tensor.dtype
            assert torch.equal(found, tensor)


def test_a_tensor_file_can_be_read_by_whoever_can_read_other_files(tmp_path):
    path, other = tmp_path / "x.safetensors", tmp_path / "other"
    save_tensors(path, TENSORS, METADATA)
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_a_state_comes_back_with_its_description(tmp_path):
    path = tmp_path / "state.safetensors"
    description = {"identity": {"seed": 1}, "iteration": 7}
    save_state(path, TENSORS, description, **KIND)
    state = load_state(path, **KIND)
    assert state is not None
    assert state.description == description == read_description(path, **KIND)
    assert all(torch.equal(state.tensors[name], tensor) for name, tensor in TENSORS.items())


def test_nothing_is_loaded_where_nothing_was_saved(tmp_path):
    assert load_state(tmp_path / "state.safetensors", **KIND) is None
    assert read_description(tmp_path / "state.safetensors", **KIND) is None


@pytest.mark.parametrize("load", [load_state, read_description])
def test_files_of_another_format_and_damaged_files_are_refused(tmp_path, load):
    path = tmp_path / "state.safetensors"
    save_state(path, TENSORS, {}, format="another", version="1")
    with pytest.raises(InputError, match="another"):
        load(path, **KIND)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=path.name):
        load(path, **KIND)


def test_an_identity_survives_a_round_trip_through_json(tmp_path):
    identity = {"size": (1, 2), "nested": {"name": "a", "none": None}}
    check_same(json.loads(json.dumps(identity)), identity, tmp_path, "a fit")


def test_an_error_lists_the_differences(tmp_path):
    saved = {"seed": 1, "fit": {"quality": "draft", "motion": "bones"}}
    wanted = {"seed": 1, "fit": {"quality": "high", "motion": "bones"}, "extra": 5}
    with pytest.raises(OutputExistsError) as caught:
        check_same(saved, wanted, tmp_path, "a fit")
    message = str(caught.value)
    assert "fit.quality was 'draft', is now 'high'" in message
    assert "extra was None, is now 5" in message
    assert "seed" not in message
    assert "motion" not in message


def test_a_fingerprint_depends_on_the_content_alone():
    array = np.arange(6).reshape(2, 3)
    assert fingerprint(array, "a") == fingerprint(array.copy(), b"a")
    assert fingerprint(array) != fingerprint(array + 1)


def test_arrays_of_the_same_bytes_differ_by_shape_and_type():
    array = np.arange(6).reshape(2, 3)
    others = [array.reshape(3, 2), array.ravel(), array.view(np.uint64)]
    assert all(fingerprint(other) != fingerprint(array) for other in others)
    assert fingerprint(array.T.copy()) == fingerprint(array.T)


def test_a_full_disk_is_an_error_of_the_system_and_keeps_the_older_state(
    tmp_path: Path, full_disk: Callable[[int], None]
):
    path = tmp_path / "state.safetensors"
    save_state(path, TENSORS, {"step": 1}, **KIND)
    full_disk(1000)
    with pytest.raises(OSError, match="large") as caught:
        save_state(path, {"a": torch.zeros(10_000)}, {"step": 2}, **KIND)
    assert caught.value.filename == str(path)
    assert read_description(path, **KIND) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]
