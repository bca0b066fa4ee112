"""A configuration says everything once, and nothing that is not understood."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from generation.training.autoencoder import AutoencoderSettings
from generation.training.settings import CONFIGS, EngineSettings, read_settings
from recon.errors import InputError


@dataclass(frozen=True)
class Own:
    width: int = 8
    scale: float = 1.0
    sizes: tuple[str, ...] = ("low",)


def write(folder: Path, text: str) -> Path:
    path = folder / "config" / "config.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_what_is_said_closer_to_the_stage_counts_more_and_options_most(tmp_path):
    path = write(
        tmp_path,
        "[engine]\nsteps = 1\nbatch = 2\nseed = 3\n"
        '[base]\nwidth = 4\nscale = 2\nsizes = ["high"]\n[base.engine]\nsteps = 5\nbatch = 6\n',
    )
    engine, own = read_settings(path, "base", Own, {"steps": 7, "device": "cuda", "workers": None})
    assert engine == EngineSettings(steps=7, batch=6, seed=3, device="cuda")
    assert own == Own(4, 2.0, ("high",))
    assert read_settings(path, "fine", Own)[0].steps == 1


def test_a_configuration_says_only_what_differs_from_the_one_that_it_extends(tmp_path):
    (tmp_path / "below.toml").write_text(
        "[engine]\nseed = 3\n[base]\nwidth = 4\nscale = 2\n[base.engine]\nsteps = 5\nbatch = 6\n"
    )
    path = write(
        tmp_path, 'extends = "../below.toml"\n[base]\nscale = 3\n[base.engine]\nbatch = 7\n'
    )
    engine, own = read_settings(path, "base", Own)
    assert engine == EngineSettings(steps=5, batch=7, seed=3)
    assert own == Own(4, 3.0)


def test_one_that_comes_along_can_be_extended(tmp_path):
    path = write(tmp_path, 'extends = "mini"\n[vae]\nwidth = 32\n')
    engine, own = read_settings(path, "vae", AutoencoderSettings)
    usual_engine, usual = read_settings("mini", "vae", AutoencoderSettings)
    assert engine == usual_engine
    assert own == dataclasses.replace(usual, width=32)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_configurations_that_come_along_are_valid(name):
    engine, own = read_settings(name, "vae", AutoencoderSettings)
    assert engine.steps > engine.warmup + engine.cooldown
    assert own.patch == 8


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[base]\nwidht = 4\nhigth = 1", "unknown setting widht, higth; known: width, scale"),
        ("[base.engine]\nstep = 4", "unknown setting step; known: steps"),
        ("[engin]\n", "unknown table engin; known: engine, vae"),
        ("base = 3", "expected base to be a table, found 3"),
        ('[base]\nwidth = "4"', "expected width to be like 8, found '4'"),
        ("[base]\nwidth = 4.5", "expected width to be like 8, found 4.5"),
        ("[base]\nsizes = [1]", "expected sizes to be like 'low', found 1"),
        ("[base]\nsizes = 'low'", "expected sizes to be like"),
        ("[engine]\nsteps = true", "expected steps to be like 1000, found True"),
        ("[engine]\nbatch = 0", "expected a finite batch above 0, found 0"),
        ("[engine]\nwarmup = -1", "expected warmup of at least 0, found -1"),
        ("[engine]\nbetas = [0.9]", "two betas"),
        ("[engine]\nlearning_rate = nan", "a finite learning_rate above 0, found nan"),
        ("[engine]\nprecision = 'float8'", "one of float32, bfloat16, found 'float8'"),
        ("extends = 3", "expected extends to name a configuration or a TOML file, found 3"),
        ("extends = 'config.toml'", "extends itself"),
        ("[engine", "not a TOML file that can be read"),
    ],
)
def test_what_is_not_understood_is_named_with_the_file(tmp_path, text, sentence):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=sentence) as found:
        read_settings(path, "base", Own)
    assert str(path) in str(found.value)


def test_a_circle_is_seen_whatever_its_files_are_called(tmp_path):
    path = write(tmp_path, "extends = '../config/../config/config.toml'")
    with pytest.raises(InputError, match="extends itself"):
        read_settings(path, "base", Own)


def test_a_missing_file_names_the_configurations_that_there_are(tmp_path):
    names = "mini, mini_noisy, mini_more, paper"
    extending = write(tmp_path, 'extends = "none.toml"')
    for path in (tmp_path / "none.toml", extending):
        with pytest.raises(InputError, match=f"none.toml.*name one of {names}, or a TOML file"):
            read_settings(path, "base", Own)
