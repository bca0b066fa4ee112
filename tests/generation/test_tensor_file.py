"""The same content is the same file, to the last byte."""

import torch
from safetensors import safe_open

from generation.safetensors_header import read_header
from generation.tensor_file import save_tensors
from generation.weights import file_sha256

TENSORS = {
    "b": torch.arange(6.0).reshape(2, 3).T,
    "a": torch.zeros(0),
    "c": torch.ones(3).half(),
}
NOTES = {"version": "1", "format": "kind", "config": '{"a": "ü\n\\"}', "scale": "0.1"}


def test_the_order_of_the_notes_is_not_left_to_chance(tmp_path):
    path = tmp_path / "x.safetensors"
    digests = set()
    for _ in range(20):  # of 24 orders
        save_tensors(path, TENSORS, NOTES)
        digests.add(file_sha256(path))
    assert len(digests) == 1


def test_a_file_holds_what_was_to_be_saved(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, NOTES)
    assert read_header(path).keys() == TENSORS.keys()
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == NOTES
        for name, tensor in TENSORS.items():
            found = file.get_tensor(name)
            assert found.dtype == tensor.dtype
            assert torch.equal(found, tensor)
