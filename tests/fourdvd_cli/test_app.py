"""Exit codes, streams and imports of the entry point; each command has a test module of its own."""

import errno
import os
import subprocess
import sys

import pytest
import torch

import fourdvd_cli
from fourdvd_cli import doctor
from fourdvd_cli.app import app
from fourdvd_cli.errors import EXIT_CODES, failure_of, resume_line
from recon import errors

HEAVY = {
    "torch", "numpy", "scipy", "PIL", "av", "trimesh", "safetensors",
    "diffusers", "transformers", "huggingface_hub",
}  # fmt: skip


def failing(monkeypatch, error: BaseException) -> None:
    """Make `fourdvd doctor` raise an error."""

    def diagnose(folder):
        raise error

    monkeypatch.setattr(doctor, "diagnose", diagnose)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.FourdvdError("no surface found"), 1),
        (errors.OutputExistsError("out"), 1),
        (OSError(errno.ENOSPC, "No space left on device", "out/scene"), 1),
        (MemoryError(), 1),
        (errors.InputError("not a scene", "in"), 3),
        (errors.GridError("frames are missing", "in"), 3),
        (errors.SceneError("NaN", "in"), 3),
        (errors.WeightsError("weights are missing"), 4),
        (errors.BackendError("no CUDA device"), 5),
        (errors.OutOfMemoryError("too little memory"), 6),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), 6),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1),
        (errors.OutputError("not a folder"), 1),
        (errors.VerificationError("45 dB"), 1),
        (errors.DivergedError("NaN"), 1),
        (errors.Interrupted("stopped at iteration 3"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_message(fourdvd, monkeypatch, error, exit_code):
    failing(monkeypatch, error)
    outcome = fourdvd("doctor")
    assert outcome.exit_code == exit_code
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("error: ") == (exit_code != 130)  # a stop is no error
    assert "Traceback" not in outcome.stderr
    assert len(outcome.stderr.splitlines()) <= 2


def test_a_full_disk_is_reported_with_its_file(fourdvd, monkeypatch):
    failing(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "out/scene"))
    assert fourdvd("doctor").stderr == "error: out/scene: No space left on device\n"


def test_brackets_in_a_message_are_printed_unchanged(fourdvd, monkeypatch):
    failing(monkeypatch, errors.InputError("expected [N, 3], found [red]x[/red]"))
    assert "expected [N, 3], found [red]x[/red]" in fourdvd("doctor").stderr


def test_an_argument_of_a_library_is_named_as_its_option(fourdvd, monkeypatch):
    error = errors.InputError("expected none", argument="fov_deg")
    assert str(error) == "fov_deg: expected none"
    failing(monkeypatch, error)
    outcome = fourdvd("doctor")
    assert (outcome.exit_code, outcome.stderr) == (3, "error: --fov: expected none\n")


def test_every_error_that_exits_is_in_the_table_of_exit_codes():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    failures = [failure_of(kind("x")) for kind in kinds if issubclass(kind, errors.FourdvdError)]
    assert len(failures) >= 10
    assert {failure.exit_code for failure in failures if failure} <= set(EXIT_CODES)
    assert all(failures)


def test_an_unknown_exception_is_not_caught(monkeypatch):
    failing(monkeypatch, ZeroDivisionError("a bug"))
    monkeypatch.setattr(sys, "argv", ["fourdvd", "doctor"])
    with pytest.raises(ZeroDivisionError):
        app()


def test_an_unknown_exception_keeps_its_traceback_and_exits_with_1():
    code = (
        "import sys; from fourdvd_cli import doctor; from fourdvd_cli.app import main;"
        "doctor.diagnose = lambda folder: 1 / 0; sys.argv = ['fourdvd', 'doctor']; main()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 1
    assert "Traceback (most recent call last)" in found.stderr
    assert "ZeroDivisionError" in found.stderr
    assert "╭" not in found.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["render", "scene"],
        ["render", "scene", "-o", "x.mp4", "--device", "tpu"],
        ["render", "scene", "-o", "x.mp4", "--frames", "0"],
        ["export", "scene", "-o", "out"],
        ["export", "scene", "-o", "out", "--format", "fbx"],
        ["reconstruct", "grid", "-o", "scene", "--quality", "best"],
        ["reconstruct", "grid", "-o", "scene", "--seed", "x"],
        ["evaluate", "scene"],
        ["grid", "a.mp4", "-o", "grid", "--azimuths", "north"],
    ],
)
def test_wrong_usage_exits_with_2_and_says_so_on_stderr(fourdvd, arguments):
    outcome = fourdvd(*arguments)
    assert outcome.exit_code == 2
    assert "Value error" not in outcome.stderr
    assert outcome.stdout == ""
    assert "Usage" in outcome.stderr


def test_version_prints_the_version_of_the_package(fourdvd):
    assert fourdvd("--version") == (0, f"fourdvd {fourdvd_cli.__version__}\n", "")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from fourdvd_cli.reference import reference; reference()\n"
        f"print('HEAVY', sorted({HEAVY} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize("command", ["--help", "doctor"])
def test_the_output_fits_an_encoding_without_box_characters(command):
    found = subprocess.run(
        [sys.executable, "-m", "fourdvd_cli", command],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert (found.returncode, found.stderr) == (0, b"")
    assert found.stdout.isascii()


def test_a_closed_pipe_gives_no_traceback(start):
    reader, writer = os.pipe()
    os.close(reader)
    process = start("doctor", "--json", stdout=writer)
    os.close(writer)
    outcome = process.ending()
    assert outcome.exit_code == 1
    assert outcome.stderr == ""


def test_verbose_adds_the_traceback_of_a_known_failure(fourdvd, tmp_path):
    outcome = fourdvd("render", tmp_path / "none", "-o", tmp_path / "x.mp4", "--verbose")
    assert outcome.exit_code == 3
    assert "Traceback" in outcome.stderr


def test_an_interrupted_command_names_the_one_that_resumes_it(fourdvd, monkeypatch):
    failing(monkeypatch, errors.Interrupted("stopped"))
    assert fourdvd("doctor", "--json").stderr == "stopped\nto resume: fourdvd doctor --json\n"


def test_a_run_and_a_training_are_resumed_without_overwriting():
    arguments = ["run", "a clip.mp4", "-o", "out", "--overwrite"]
    assert resume_line(arguments) == "to resume: fourdvd run 'a clip.mp4' -o out"
    assert resume_line(["train", "lift", "--overwrite"]) == "to resume: fourdvd train lift"
    assert resume_line(["generate", "x", "--overwrite"]).endswith("generate x --overwrite")
    assert resume_line(["reconstruct", "x", "--restart"]).endswith("reconstruct x")
