"""`fourdvd train` from the autoencoder to the branch, each on the outputs of the earlier ones."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from fourdvd_cli.commands.train import train
from fourdvd_cli.errors import failure_of
from generation.weights.catalogue import CASCADE_FILES
from tests.generation.curation.shards.tiny_packs import pack, write_data

SIZES = """
channel_mult = [1, 1]
attention_resolutions = [1]
context_dim = 8
image_encoder_side = 8
image_encoder_widths = [32]
"""
SEEN = "frames = 3\nviews = 2\nmax_stride = 1\neval_grids = 1\nsampler_steps = 1\n"
CONFIG = f"""
[engine]
steps = 1
batch_size = 2
held_out = 1
[vae]
patch = 2
latent_channels = 12
width = 8
encoder_blocks = 1
decoder_blocks = 1
max_stride = 2
[reference-views]
views = 4
eval_grids = 1
sampler_steps = 1
{SIZES}
[base]
{SEEN}{SIZES}
[coarse]
{SEEN}
rank = 2
[fine]
{SEEN}
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks wait for threads longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def command(monkeypatch, tmp_path) -> Callable[..., Result]:
    """`fourdvd train STAGE`, into a folder of the stage's name, with more arguments."""
    # The console's own handlers outlive a test and write to a stream that is closed by then.
    monkeypatch.setattr("fourdvd_cli.console.configure", lambda quiet, verbose: None)
    pack(write_data(tmp_path / "data"), tmp_path / "shards")
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)

    def call(stage: str, *arguments: object) -> Result:
        fixed = (tmp_path / "shards", "-o", tmp_path / stage, "--config", config)
        return call_train("train", stage, *fixed, "--device", "cpu", "--json", "-q", *arguments)

    return call


def call_train(*arguments: object) -> Result:
    app = typer.Typer()
    app.add_typer(train)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def exit_code(result: Result) -> int:
    assert result.exception is not None
    failure = failure_of(result.exception)
    assert failure is not None, result.exception
    return failure.exit_code


def test_each_training_uses_the_earlier_ones_and_they_assemble_to_a_cascade(command, tmp_path):
    vae, base = ("--vae", tmp_path / "vae"), ("--base", tmp_path / "base")
    expected = {
        "vae": ((), {"vae.safetensors"}),
        "reference-views": (vae, {"unet.safetensors", "tower.safetensors"}),
        "base": (vae, {"unet.safetensors", "tower.safetensors"}),
        "coarse": ((*vae, *base), {"4dvd_lora.safetensors"}),
        "fine": ((*vae, *base, "--branch", "t2i_adapter"), {"4dvd_branch.safetensors"}),
    }
    for stage, (arguments, files) in expected.items():
        result = command(stage, *arguments)
        assert result.exit_code == 0, (stage, result.exception)
        printed = json.loads(result.stdout)
        assert printed["stage"] == stage
        assert {path.name for path in Path(printed["weights"]).iterdir()} == files
    weights = tmp_path / "weights"
    arguments = ("train", "assemble", tmp_path, "-o", weights, "--json", "-q")
    printed = json.loads(call_train(*arguments).stdout)
    assert printed["weights"] == str(weights)
    assert printed["bytes"] == {path.name: path.stat().st_size for path in weights.iterdir()}
    assert set(printed["bytes"]) == set(CASCADE_FILES)
    assert exit_code(call_train(*arguments)) == 1
    assert call_train(*arguments, "--overwrite").exit_code == 0


@pytest.mark.parametrize("size", ["low", "high"])
def test_the_base_is_trained_at_the_requested_resolution(command, tmp_path, size):
    assert command("vae").exit_code == 0
    result = command("base", "--vae", tmp_path / "vae", "--resolution", size)
    assert result.exit_code == 0, result.exception
    settings = json.loads((tmp_path / "base" / "config.json").read_text())["identity"]["base"]
    assert settings["size"] == size


def test_an_unknown_resolution_is_a_usage_error(command, tmp_path):
    assert command("base", "--vae", tmp_path / "vae", "--resolution", "huge").exit_code == 2


def test_assemble_names_missing_trainings(command, tmp_path):
    result = call_train("train", "assemble", tmp_path, "-o", tmp_path / "weights")
    assert exit_code(result) == 4
    assert not (tmp_path / "weights").exists()


def test_missing_inputs_are_named_with_the_command_that_trains_them(command, tmp_path):
    result = command("base", "--vae", tmp_path / "nothing")
    assert exit_code(result) == 4
    assert "fourdvd train vae" in f"{result.exception}{getattr(result.exception, 'hint', '')}"
