"""`fourdvd train`: results as JSON, options that override configurations, and resuming."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from fourdvd_cli import interrupts
from fourdvd_cli.commands.train import train
from fourdvd_cli.errors import failure_of
from generation.training.run_folder import read_log
from generation.weights.model_weights import open_lift
from tests.generation.curation.shards.tiny_packs import pack, write_data
from tests.generation.training.tiny_lift import TOML, write_bakes, write_encoder

CONFIG = """
[vae]
patch = 2
latent_channels = 12
width = 8
encoder_blocks = 1
decoder_blocks = 1
[vae.engine]
steps = 3
batch_size = 2
held_out = 1
log_every = 1
seed = 5
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks wait for threads longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    pack(write_data(folder / "data"), folder / "shards")
    return folder / "shards"


@pytest.fixture
def command(monkeypatch, shards, tmp_path) -> Callable[..., Result]:
    """`fourdvd train vae` on the tiny pack, or another command that `arguments` name."""
    # The console's own handlers outlive a test and write to a stream that is closed by then.
    monkeypatch.setattr("fourdvd_cli.console.configure", lambda quiet, verbose: None)
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    app = typer.Typer()
    app.add_typer(train)
    fixed = ("vae", shards, "-o", tmp_path / "out", "--config", config)

    def call(*more: object, arguments: tuple[object, ...] = fixed) -> Result:
        line = ("train", *arguments, "--device", "cpu", *more)
        return CliRunner().invoke(app, [str(argument) for argument in line])

    return call


def exit_code(result: Result) -> int:
    assert result.exception is not None
    failure = failure_of(result.exception)
    assert failure is not None, result.exception
    return failure.exit_code


def test_json_prints_the_result_alone(command, tmp_path):
    result = command("--json", "--quiet")
    assert result.exit_code == 0, result.exception
    printed = json.loads(result.stdout)
    assert printed["stage"] == "vae"
    assert printed["steps"] == 3
    assert set(printed["scores"]) == {"psnr_low", "psnr_high"}
    assert Path(printed["weights"]) == tmp_path / "out" / "weights"
    assert (tmp_path / "out" / "weights" / "vae.safetensors").exists()


def test_of_several_processes_only_the_first_prints(command, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    result = command("--json")
    assert result.exit_code == 0
    assert (result.stdout, result.stderr) == ("", "")


def test_options_override_the_configuration(command, tmp_path):
    options = (
        "--steps",
        2,
        "--batch-size",
        1,
        "--lr",
        0.01,
        "--seed",
        7,
        "--workers",
        0,
        "--quiet",
    )
    assert command(*options).exit_code == 0
    engine = json.loads((tmp_path / "out" / "config.json").read_text())["engine"]
    assert (engine["steps"], engine["batch_size"], engine["seed"]) == (2, 1, 7)
    assert (engine["learning_rate"], engine["device"]) == (0.01, "cpu")


def test_the_same_command_resumes_and_overwrite_starts_again(command, tmp_path):
    assert command("--steps", 2, "--quiet").exit_code == 0
    first = read_log(tmp_path / "out")
    assert command("--steps", 3, "--quiet").exit_code == 0
    assert read_log(tmp_path / "out")[: len(first)] == first
    assert exit_code(command("--seed", 6, "--quiet")) == 1
    assert command("--seed", 6, "--overwrite", "--quiet").exit_code == 0


def test_a_signal_saves_the_state_and_sets_the_exit_code(command, tmp_path, monkeypatch):
    @contextmanager
    def stop_request():
        yield lambda: True

    monkeypatch.setattr(interrupts, "stop_request", stop_request)
    assert exit_code(command("--quiet")) == 130
    assert (tmp_path / "out" / "checkpoints" / "step_00000001.safetensors").is_file()


def test_a_folder_without_shards_and_an_unknown_setting_are_input_errors(command, tmp_path):
    assert exit_code(command("--config", tmp_path / "none.toml")) == 3
    (tmp_path / "tiny.toml").write_text("[vae]\nwidht = 3")
    assert exit_code(command()) == 3
    assert not (tmp_path / "out").exists()


def test_lift_trains_on_baked_assets_and_its_result_is_found(command, tmp_path):
    (tmp_path / "tiny.toml").write_text(TOML)
    baked, encoder = write_bakes(tmp_path / "baked"), write_encoder(tmp_path / "encoder.pth")
    fixed = ("lift", baked, "-o", tmp_path / "lift", "--config", tmp_path / "tiny.toml", "--quiet")
    result = command("--json", "--encoder", encoder, arguments=fixed)
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["scores"]["unknown_iou"] >= 0
    assert open_lift(tmp_path / "lift" / "weights").config.size == 32
    fixed = (*fixed[:3], tmp_path / "more", *fixed[4:])
    assert command("--init-from", tmp_path / "lift", arguments=fixed).exit_code == 0
    assert exit_code(command(arguments=(*fixed, "--overwrite"))) == 3
