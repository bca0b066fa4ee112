"""Outputs are complete or absent, and existing ones are replaced only with overwrite."""

import contextlib
import errno
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from recon import output
from recon.errors import OutputError, OutputExistsError
from recon.output import (
    check_output,
    output_file,
    output_folder,
    sole_writer,
    system_error,
    temporary_folder,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_only_when_it_is_finished(tmp_path):
    with output_folder(tmp_path / "a" / "result") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "a" / "result").exists()
    assert names(tmp_path / "a") == ["result"]
    assert names(tmp_path / "a" / "result") == ["x"]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, OSError(28, "No space left on device"), SystemExit]
)
def test_an_interruption_leaves_nothing(tmp_path, error):
    with pytest.raises(BaseException), output_folder(tmp_path / "result") as folder:  # noqa: B017
        (folder / "x").write_text("1")
        raise error
    assert names(tmp_path) == []


class _InterruptedAt:
    """A signal that arrives between any two instructions of the module under test."""

    def __init__(self, instruction: int) -> None:
        self.left = instruction

    def __call__(self, frame, event, argument):
        if frame.f_code.co_filename not in (output.__file__, contextlib.__file__):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


@pytest.mark.parametrize("place", [output_folder, output_file])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interruption_at_any_instruction_leaves_the_old_or_the_new(tmp_path, place, overwrite):
    def make(number: int) -> None:
        with place(tmp_path / "result", overwrite) as made:
            file = made / "x" if place is output_folder else made
            file.write_text(str(number))

    def content() -> list[str]:
        return [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]

    instruction, interrupted = 1, True
    while interrupted:
        before = content() if overwrite else []
        trace = sys.gettrace()
        sys.settrace(_InterruptedAt(instruction))
        try:
            make(instruction)
            interrupted = False
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(trace)
        assert names(tmp_path) in ([], ["result"])
        assert content() in (before, [str(instruction)])
        if not overwrite:
            for path in tmp_path.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        instruction += 1
    assert instruction > 100  # it did trace


def test_an_empty_folder_is_filled_and_one_with_files_is_refused(tmp_path):
    (tmp_path / "result").mkdir()
    with output_folder(tmp_path / "result") as folder:
        (folder / "x").write_text("1")
    with pytest.raises(OutputExistsError, match="--overwrite"), output_folder(tmp_path / "result"):
        pytest.fail("the block must not start")
    assert names(tmp_path / "result") == ["x"]


def test_overwriting_replaces_the_whole_folder(tmp_path):
    for name in ("old", "new"):
        with output_folder(tmp_path / "result", overwrite=True) as folder:
            (folder / name).write_text("1")
    assert names(tmp_path) == ["result"]
    assert names(tmp_path / "result") == ["new"]


def test_a_failed_overwrite_keeps_the_old_folder(tmp_path):
    with output_folder(tmp_path / "result") as folder:
        (folder / "old").write_text("1")
    with (
        pytest.raises(KeyboardInterrupt),
        output_folder(tmp_path / "result", overwrite=True) as folder,
    ):
        (folder / "new").write_text("1")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["result"]
    assert names(tmp_path / "result") == ["old"]


def test_a_folder_that_is_created_meanwhile_is_kept(tmp_path):
    with pytest.raises(OutputExistsError), output_folder(tmp_path / "result"):
        (tmp_path / "result").mkdir()
        (tmp_path / "result" / "theirs").write_text("1")
    assert names(tmp_path) == ["result"]
    assert names(tmp_path / "result") == ["theirs"]


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path, monkeypatch):
    with output_folder(tmp_path / "result") as folder:
        (folder / "old").write_text("1")
    rename = Path.rename

    def failing(self, target):
        if ".partial-" in self.name:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with (
        pytest.raises(OSError, match="No space"),
        output_folder(tmp_path / "result", overwrite=True),
    ):
        pass
    assert names(tmp_path) == ["result"]
    assert names(tmp_path / "result") == ["old"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "result").symlink_to(tmp_path / "disk")
    with output_folder(tmp_path / "result") as folder:
        (folder / "x").write_text("1")
    assert (tmp_path / "result").is_symlink()
    assert names(tmp_path / "disk") == ["x"]


def test_errors_name_the_conflicting_file(tmp_path):
    (tmp_path / "file").write_text("1")
    with pytest.raises(OutputError, match="is a file"):
        check_output(tmp_path / "file", overwrite=True)
    with pytest.raises(OutputError, match="is a file"):
        check_output(tmp_path / "file" / "below" / "it")


def test_the_working_directory_is_never_replaced(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(OutputError, match="working directory"):
        check_output(tmp_path, overwrite=True)


def test_a_file_appears_only_when_it_is_finished_and_keeps_its_suffix(tmp_path):
    with output_file(tmp_path / "a" / "x.mp4") as partial:
        assert partial.suffix == ".mp4"
        partial.write_text("1")
        assert not (tmp_path / "a" / "x.mp4").exists()
    assert names(tmp_path / "a") == ["x.mp4"]


def test_an_existing_file_is_kept_or_replaced_with_overwrite(tmp_path):
    path = tmp_path / "x.mp4"
    path.write_text("old")
    with pytest.raises(OutputExistsError), output_file(path):
        pytest.fail("the block must not start")
    with pytest.raises(KeyboardInterrupt), output_file(path, overwrite=True) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with output_file(path, overwrite=True) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["x.mp4"]
    with pytest.raises(OutputError, match="is a folder"), output_file(tmp_path):
        pytest.fail("the block must not start")


def test_json_is_replaced_atomically_and_contains_no_nan(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"psnr": 1.5})
    with pytest.raises(OutputError, match="JSON"):
        write_json(path, {"psnr": float("nan")})
    assert json.loads(path.read_text()) == {"psnr": 1.5}
    assert names(tmp_path) == ["x.json"]


@pytest.mark.parametrize("place", [output_folder, output_file])
def test_a_full_disk_names_the_result_and_leaves_nothing(
    tmp_path: Path, place, full_disk: Callable[[int], None]
):
    full_disk(100)
    with pytest.raises(OSError, match="large") as caught, place(tmp_path / "result") as made:
        (made if place is output_file else made / "x").write_bytes(bytes(200))
    assert caught.value.filename == str(tmp_path / "result")
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", [output_folder, output_file])
def test_a_folder_without_permission_names_the_result(unwritable: Path, place):
    with pytest.raises(PermissionError) as caught, place(unwritable / "result") as made:
        made.write_text("1")
    assert caught.value.filename == str(unwritable / "result")


def test_an_error_at_a_file_inside_names_its_final_place(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught, output_folder(tmp_path / "result") as folder:
        (folder / "none").read_text()
    assert caught.value.filename == str(tmp_path / "result" / "none")


def test_a_full_disk_of_temporary_files_is_named(full_disk: Callable[[int], None]):
    full_disk(100)
    with pytest.raises(OSError, match="large") as caught, temporary_folder() as folder:
        (folder / "x").write_bytes(bytes(200))
    assert caught.value.filename == tempfile.gettempdir()
    assert not folder.exists()


def test_errors_of_the_system_are_found_in_messages():
    found = system_error("I/O error: No space left on device (os error 28)", "x")
    assert found is not None and (found.errno, found.filename) == (errno.ENOSPC, "x")
    assert system_error("header too small", "x") is None


def test_a_folder_has_one_writer_at_a_time(tmp_path):
    with sole_writer(tmp_path / "out"):
        with pytest.raises(OutputError, match="another process"), sole_writer(tmp_path / "out"):
            pass
        with sole_writer(tmp_path / "other"):
            pass
    with sole_writer(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_was_killed_does_not_block_the_next(tmp_path):
    code = (
        "import os; from recon.output import sole_writer\n"
        f"with sole_writer({str(tmp_path / 'out')!r}): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode < 0
    with sole_writer(tmp_path / "out"):
        pass


def test_a_writer_needs_a_folder_as_parent(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"), sole_writer(tmp_path / "file" / "out"):
        pass
