"""Blender for the tests that need it, and small stand-in programs for tests of failures."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from generation.curation.render.blender_process import PROGRAM

needs_blender = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None, reason="Blender's module is not installed: [data]"
)


@pytest.fixture
def instead_of_blender(tmp_path, monkeypatch) -> Callable[[str], Path]:
    """Replace Blender by a Python program of a few lines."""

    def put(code: str) -> Path:
        program = tmp_path / "blender"
        program.write_text(f"#!{sys.executable}\n{code}\n")
        program.chmod(0o755)
        monkeypatch.setenv(PROGRAM, str(program))
        return program

    return put
