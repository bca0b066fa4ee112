"""What nerfstudio loads, in an environment without it; tests with it are in `test_commands.py`."""

import importlib
import importlib.metadata
import importlib.util
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from recon.errors import BackendError, GridError, Interrupted
from recon.nerfstudio import plugin
from recon.nerfstudio.failures import sentences

ROOT = Path(__file__).parents[3]
WITHOUT_NERFSTUDIO = pytest.mark.skipif(
    importlib.util.find_spec("nerfstudio") is not None, reason="nerfstudio is installed"
)


def entry_points() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = project["entry-points"]
    return groups["nerfstudio.method_configs"] | groups["nerfstudio.dataparser_configs"]


def test_the_entry_points_name_what_the_plugin_builds():
    assert entry_points() == {
        "fourdvd": "recon.nerfstudio.plugin:method",
        "fourdvd-grid": "recon.nerfstudio.plugin:dataparser",
    }
    assert importlib.import_module("recon.nerfstudio.plugin") is plugin
    with pytest.raises(AttributeError, match="nothing"):
        _ = plugin.nothing


def test_the_extra_and_the_plugin_ask_for_the_same_release():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["nerfstudio"] == [f"nerfstudio=={plugin.VERSION}"]


@WITHOUT_NERFSTUDIO
def test_without_nerfstudio_the_check_exits_with_5_and_the_command():
    command = [sys.executable, "-m", "recon.nerfstudio"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.splitlines() == [
        f"the method fourdvd needs nerfstudio {plugin.VERSION}, found none; run {plugin.INSTALL}"
    ]


@WITHOUT_NERFSTUDIO
@pytest.mark.parametrize("name", ["method", "dataparser"])
def test_without_nerfstudio_there_is_nothing_to_load(name):
    if name == "method":
        with pytest.raises(BackendError, match="nerfstudio"):
            _ = plugin.method
    else:
        assert "nerfstudio" in plugin.dataparser


@dataclass
class Config:
    _target: Any
    method_name: str


@dataclass
class Specification:
    config: Config
    description: str


@pytest.fixture
def other_release(monkeypatch) -> None:
    """A nerfstudio 1.0.3, of which only the classes of a plugin exist."""
    modules = {
        "nerfstudio": {},
        "nerfstudio.engine": {},
        "nerfstudio.engine.trainer": {"TrainerConfig": Config},
        "nerfstudio.plugins": {},
        "nerfstudio.plugins.types": {"MethodSpecification": Specification},
    }
    for name, values in modules.items():
        module = ModuleType(name)
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0.3")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_another_release_lists_the_method_with_the_reason(other_release):
    found = plugin.method
    assert "needs nerfstudio 1.1.5, found 1.0.3" in found.description
    assert found.config.method_name == "fourdvd"
    assert "found 1.0.3" in plugin.dataparser


def test_running_it_with_another_release_exits_with_5_and_the_command(other_release, capsys):
    config = plugin.method.config
    with pytest.raises(SystemExit) as ending:
        config._target(config, local_rank=0, world_size=1)
    assert ending.value.code == 5
    assert plugin.INSTALL in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [(GridError("bad", "grid"), 3), (BackendError("no", "do"), 5), (Interrupted("stopped"), 130)],
)
def test_an_error_ends_with_a_sentence_and_its_exit_code(error, code, capsys):
    with pytest.raises(SystemExit) as ending, sentences():
        raise error
    assert ending.value.code == code
    assert str(error) in capsys.readouterr().err


def test_other_exceptions_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), sentences():
        _ = 1 / 0
