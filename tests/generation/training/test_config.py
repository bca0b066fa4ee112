"""Configurations are merged in order, and unknown or invalid values are errors."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from generation.lift.network import LiftConfig
from generation.training.autoencoder import AutoencoderConfig
from generation.training.config import CONFIGS, EngineConfig, read_config
from generation.training.lift_loss import LiftWeights
from generation.training.lift_stage import LiftStageConfig
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


def test_options_override_the_stage_which_overrides_the_engine(tmp_path):
    path = write(
        tmp_path,
        "[engine]\nsteps = 1\nbatch_size = 2\nseed = 3\n"
        '[base]\nwidth = 4\nscale = 2\nsizes = ["high"]\n'
        "[base.engine]\nsteps = 5\nbatch_size = 6\n",
    )
    engine, own = read_config(
        path, "base", Own, {"steps": 7, "device": "cuda", "num_workers": None}
    )
    assert engine == EngineConfig(steps=7, batch_size=6, seed=3, device="cuda")
    assert own == Own(4, 2.0, ("high",))
    assert read_config(path, "fine", Own)[0].steps == 1


def test_a_configuration_overrides_single_values_of_the_one_it_extends(tmp_path):
    (tmp_path / "below.toml").write_text(
        "[engine]\nseed = 3\n[base]\nwidth = 4\nscale = 2\n"
        "[base.engine]\nsteps = 5\nbatch_size = 6\n"
    )
    path = write(
        tmp_path, 'extends = "../below.toml"\n[base]\nscale = 3\n[base.engine]\nbatch_size = 7\n'
    )
    engine, own = read_config(path, "base", Own)
    assert engine == EngineConfig(steps=5, batch_size=7, seed=3)
    assert own == Own(4, 3.0)


def test_a_shipped_configuration_can_be_extended(tmp_path):
    path = write(tmp_path, 'extends = "mini"\n[vae]\nwidth = 32\n')
    engine, own = read_config(path, "vae", AutoencoderConfig)
    usual_engine, usual = read_config("mini", "vae", AutoencoderConfig)
    assert engine == usual_engine
    assert own == dataclasses.replace(usual, width=32)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shipped_configurations_are_valid(name):
    engine, own = read_config(name, "vae", AutoencoderConfig)
    assert engine.steps > engine.warmup_steps + engine.cooldown_steps
    assert own.patch == 8


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[base]\nwidht = 4\nhigth = 1", "widht, higth"),
        ("[base.engine]\nstep = 4", "setting step"),
        ("[engin]\n", "table engin"),
        ("base = 3", "base to be a table, found 3"),
        ('[base]\nwidth = "4"', "width .* '4'"),
        ("[base]\nsizes = [1]", "sizes .* 1"),
        ("[engine]\nsteps = true", "steps .* True"),
        ("[engine]\nbatch_size = 0", "batch_size .* 0"),
        ("[engine]\nbetas = [0.9]", "betas"),
        ("[engine]\nlearning_rate = nan", "learning_rate .* nan"),
        ("[engine]\nprecision = 'float8'", "float8"),
        ("extends = 3", "extends .* 3"),
        ("extends = 'config.toml'", "extends itself"),
        ("[engine", "TOML"),
        ("[engine]\naverage_decay = 0.9", "average_decay is now called ema_decay"),
        ("[base]\nsteps = 1", "steps is now called sampler_steps"),
    ],
)
def test_errors_name_the_key_and_the_file(tmp_path, text, named):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=named) as found:
        read_config(path, "base", Own)
    assert str(path) in str(found.value)


def test_a_circular_extends_is_refused_for_any_spelling_of_the_path(tmp_path):
    path = write(tmp_path, "extends = '../config/../config/config.toml'")
    with pytest.raises(InputError, match="extends itself"):
        read_config(path, "base", Own)


def test_a_missing_file_lists_the_shipped_configurations(tmp_path):
    names = ", ".join(CONFIGS)
    extending = write(tmp_path, 'extends = "none.toml"')
    for path in (tmp_path / "none.toml", extending):
        with pytest.raises(InputError, match=f"none.toml.*{names}"):
            read_config(path, "base", Own)


def test_a_table_in_the_table_of_a_stage_configures_a_part_of_it(tmp_path):
    path = tmp_path / "lift.toml"
    path.write_text("[lift.network]\nsize = 64\nwidths = [32, 32, 32, 64]\n[lift.loss]\nyaw = 1\n")
    found = read_config(path, "lift", LiftStageConfig)[1]
    assert found.network == LiftConfig(size=64, widths=(32, 32, 32, 64))
    assert found.loss == LiftWeights(yaw=1.0)
    path.write_text("[lift.network]\nsizes = 64\n")
    with pytest.raises(InputError, match=r"sizes.*size"):
        read_config(path, "lift", LiftStageConfig)
    path.write_text("[lift]\nnetwork = 64\n")
    with pytest.raises(InputError, match="network"):
        read_config(path, "lift", LiftStageConfig)


def test_the_shipped_configuration_of_lift_is_that_of_the_defaults_of_its_stage():
    engine, stage = read_config("lift", "lift", LiftStageConfig)
    assert stage == LiftStageConfig(held_out_assets=stage.held_out_assets)
    assert (engine.batch_size, engine.cooldown_share) == (16, 0.25)


def test_weights_are_averaged_before_they_are_evaluated_and_saved():
    named: dict[str, Any] = {"eval_every": 500, "images_every": 1000, "checkpoint_every": 1000}
    assert EngineConfig(average_every=100, **named).identity["average_every"] == 100
    assert "average_every" not in EngineConfig().identity
    for name in named:
        changed: dict[str, Any] = {**named, name: 150}
        with pytest.raises(InputError, match=f"{name}.*150 and 100"):
            EngineConfig(average_every=100, **changed)
