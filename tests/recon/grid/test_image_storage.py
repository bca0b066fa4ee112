"""Large arrays are in a file, behave like those in memory, and leave nothing."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from recon.grid import image_storage, read_grid
from recon.grid.image_storage import empty_images


@pytest.fixture
def small_memory(monkeypatch, tmp_path) -> Path:
    """All arrays are large; returns the folder of the temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(image_storage, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(image_storage, "_folder", lambda: str(folder))
    return folder


def test_a_large_array_is_zero_and_writable_in_an_unnamed_file(small_memory):
    array = empty_images((3, 4, 5, 4))
    assert (array.shape, array.dtype, type(array)) == ((3, 4, 5, 4), np.uint8, np.ndarray)
    assert not array.any()
    assert isinstance(array.base, np.memmap)
    torch.from_numpy(array)[1] = 7
    assert array[1].min() == 7
    assert list(small_memory.iterdir()) == []


def test_a_grid_in_a_file_is_that_in_memory(tiny_grid_folder, monkeypatch, request):
    expected = read_grid(tiny_grid_folder)
    request.getfixturevalue("small_memory")
    found = read_grid(tiny_grid_folder)
    assert isinstance(found.images.base, np.memmap)
    assert (found.images == expected.images).all()


def test_without_room_on_the_disk_images_are_in_memory_with_a_warning(small_memory, caplog):
    small_memory.rmdir()
    with caplog.at_level(logging.WARNING):
        array = empty_images((2, 3, 3, 4))
    assert array.base is None
    assert "TMPDIR" in caplog.text


def test_a_full_disk_is_noticed_before_anything_is_written(small_memory, monkeypatch, caplog):
    def full(descriptor: int, begin: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_storage.os, "posix_fallocate", full, raising=False)
    assert not isinstance(empty_images((2, 3, 3, 4)).base, np.memmap)
    assert "No space left" in caplog.text


def test_space_is_reserved_where_the_system_cannot_do_it(small_memory, monkeypatch):
    monkeypatch.delattr(image_storage.os, "posix_fallocate", raising=False)
    monkeypatch.setattr(image_storage, "CHUNK", bytes(7))
    assert empty_images((2, 3, 3, 4)).sum() == 0
