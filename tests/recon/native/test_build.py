"""The build: which compiler it takes, and that a failure leaves the old library alone."""

import sys
from pathlib import Path

import pytest

from recon.native import build as build_module
from recon.native.build import BuildError, build, find_compiler, variants

COMPILER = """#!/bin/sh
# Writes its own arguments to the file after -o.
line="$*"
while [ $# -gt 1 ]; do
  if [ "$1" = -o ]; then echo "$line" > "$2"; fi
  shift
done
"""


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build_module.shutil, "which", lambda name: None)
    monkeypatch.setattr(build_module.importlib.util, "find_spec", lambda name: None)
    return monkeypatch


@pytest.fixture
def recording_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if sys.platform == "win32":
        pytest.skip("the compiler of this test is a shell script")
    path = tmp_path / "compiler"
    path.write_text(COMPILER)
    path.chmod(0o755)
    monkeypatch.setenv("CXX", f"{path} --an-option")
    return path


def test_the_environment_names_the_compiler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "ccache g++-13")
    assert find_compiler() == ["ccache", "g++-13"]


def test_clang_is_preferred_to_gcc_and_both_to_ziglang(no_compiler: pytest.MonkeyPatch):
    assert find_compiler() is None
    no_compiler.setattr(build_module.importlib.util, "find_spec", lambda name: object())
    assert find_compiler() == [sys.executable, "-m", "ziglang", "c++"]
    no_compiler.setattr(build_module.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert find_compiler() == ["clang++"]


def test_without_a_compiler_the_error_says_what_to_install(
    no_compiler: pytest.MonkeyPatch, tmp_path: Path
):
    with pytest.raises(BuildError, match="install clang or gcc, or `pip install ziglang`"):
        build(tmp_path / "kernels.so")


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "arm64", "aarch64", "riscv64"])
def test_every_machine_has_a_generic_variant(machine: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build_module.platform, "machine", lambda: machine)
    assert variants()["generic"] == ()
    assert ("avx2" in variants()) == (machine in ("x86_64", "AMD64"))


def test_every_kernel_is_compiled_for_every_variant_and_linked(
    recording_compiler: Path, tmp_path: Path
):
    library = tmp_path / "kernels.so"
    library.write_text("the old one")
    assert build(library) == library
    linked = library.read_text()
    for kernel in ("rasterize", "image_loss"):
        for variant in variants():
            assert f"{kernel}_{variant}.o" in linked
    assert "--an-option" in linked
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compiler", "kernels.so"]


@pytest.mark.parametrize("command", ["false", "/no/such/compiler"])
def test_a_failed_build_keeps_the_old_library(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    library = tmp_path / "kernels.so"
    library.write_text("the old one")
    monkeypatch.setenv("CXX", command)
    with pytest.raises(BuildError, match=command):
        build(library)
    assert library.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [library]
