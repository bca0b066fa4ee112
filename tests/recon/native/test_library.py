"""Loading the kernels: the choice of the instruction set, its errors, threads and forks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recon.errors import BackendError
from recon.native import library
from recon.native.build import variants
from recon.native.library import built, kernels

needs_kernels = pytest.mark.skipif(not built(), reason="the CPU kernels were not compiled")

AFTER_A_FORK = """
import os, signal, sys, threading, warnings
import torch
from recon.native.library import kernels
from recon.rasterizers.cpu import rasterize_cpu

warnings.simplefilter("ignore")  # that a process with threads forks is what this is about

def draw(size=40):
    means = torch.tensor([[0.0, 0.0, 2.0]])
    quats, scales = torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.3)
    K = torch.tensor([[[1.0 * size, 0, size / 2], [0, size, size / 2], [0, 0, 1]]])
    return rasterize_cpu(means, quats, scales, torch.tensor([0.8]), torch.ones(1, 3),
                         torch.eye(4)[None], K, size, size).rgb

def draw_in_child():
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # ends a child that waits for a thread of its parent
        agrees = torch.equal(draw(), expected)
        tasks = "/proc/self/task"  # on Linux
        os._exit(0 if agrees and (not os.path.isdir(tasks) or len(os.listdir(tasks)) == 3) else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, code

def draw_all_the_time():
    while not done.is_set():
        draw(1000)

kernels().set_threads(3)
expected = draw()
draw_in_child()
assert torch.equal(draw(), expected)
done = threading.Event()
other = threading.Thread(target=draw_all_the_time)
other.start()
try:
    for _ in range(5):
        draw_in_child()
finally:
    done.set()
    other.join()
"""


@pytest.fixture
def unloaded():
    """The library is loaded anew inside the test, and again after it."""
    kernels.cache_clear()
    yield
    kernels.cache_clear()


@needs_kernels
@pytest.mark.usefixtures("unloaded")
def test_the_instruction_set_is_the_best_of_the_processor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FOURDVD_ISA", raising=False)
    assert kernels().variant in variants()


@needs_kernels
@pytest.mark.usefixtures("unloaded")
def test_the_environment_names_the_instruction_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FOURDVD_ISA", "generic")
    assert kernels().variant == "generic"


@needs_kernels
@pytest.mark.usefixtures("unloaded")
def test_an_unknown_instruction_set_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FOURDVD_ISA", "mmx")
    with pytest.raises(BackendError, match=r"FOURDVD_ISA .*\['avx.*'mmx'"):
        kernels()


@pytest.mark.usefixtures("unloaded")
def test_a_missing_library_is_an_error_that_says_how_to_build_it(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(library, "built", lambda: False)
    with pytest.raises(BackendError, match=r"install a C\+\+ compiler.*recon\.native\.build"):
        kernels()


@pytest.mark.usefixtures("unloaded")
def test_a_broken_library_is_an_error_that_says_how_to_build_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    broken = tmp_path / "fourdvd_kernels.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(library, "LIBRARY", broken)
    monkeypatch.setattr(library, "built", lambda: True)
    with pytest.raises(BackendError, match=r"cannot be loaded.*recon\.native\.build"):
        kernels()


@needs_kernels
@pytest.mark.usefixtures("unloaded")
def test_kernels_of_another_version_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(library, "INTERFACE", library.INTERFACE + 1)
    with pytest.raises(BackendError, match=r"another version.*recon\.native\.build"):
        kernels()


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_rasterizes_with_as_many_threads_whatever_its_parent_does():
    result = subprocess.run(
        [sys.executable, "-c", AFTER_A_FORK], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
