"""Digests of the input of a run: what changes them, and what does not."""

import os

import pytest

from fourdvd_cli.commands.run_input import input_digest, input_stamp


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "frames" / "deep").mkdir(parents=True)
    for name in ("a.png", "b.png", "deep/c.png"):
        (tmp_path / "frames" / name).write_bytes(name.encode())
    return tmp_path / "frames"


@pytest.mark.parametrize("function", [input_stamp, input_digest])
def test_a_replaced_added_or_renamed_file_changes_both(folder, function):
    found = {function(folder, folder / "out")}
    (folder / "deep" / "c.png").write_bytes(b"other, longer")
    found.add(function(folder, folder / "out"))
    (folder / "d.png").write_bytes(b"")
    found.add(function(folder, folder / "out"))
    (folder / "d.png").rename(folder / "e.png")
    found.add(function(folder, folder / "out"))
    assert len(found) == 4


@pytest.mark.parametrize("function", [input_stamp, input_digest])
def test_hidden_files_and_results_inside_of_the_input_change_nothing(folder, function):
    before = function(folder, folder / "out")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "a.png").write_bytes(b"small")
    (folder / "out").mkdir()
    (folder / "out" / "run.json").write_text("{}")
    assert function(folder, folder / "out") == before


def test_a_file_of_the_same_content_has_another_stamp_only(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"frames")
    os.utime(path, (1, 1))
    stamp, digest = input_stamp(path, tmp_path / "out"), input_digest(path, tmp_path / "out")
    os.utime(path, (2, 2))
    assert input_stamp(path, tmp_path / "out") != stamp
    assert input_digest(path, tmp_path / "out") == digest


def test_a_missing_input_has_none(tmp_path):
    assert input_stamp(tmp_path / "a.mp4", tmp_path) is None
    assert input_digest(tmp_path / "a.mp4", tmp_path) is None
