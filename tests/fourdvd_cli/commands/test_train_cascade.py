"""`fourdvd train` from the autoencoder to the branch, each stage on what the ones before wrote."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from fourdvd_cli.commands.train import train
from fourdvd_cli.errors import failure_of
from tests.generation.curation.shards.tiny_packs import pack, write_data

SIZES = """
channel_mult = [1, 1]
attention_resolutions = [1]
context_dim = 8
tower_side = 8
tower_widths = [32]
"""
SEEN = "frames = 3\nviews = 2\nmax_stride = 1\nsampled = 1\nsteps = 1\n"
CONFIG = f"""
[engine]
steps = 1
batch = 2
held_out = 1
[vae]
widths = [8, 8]
norm_groups = 4
max_stride = 2
[reference-views]
views = 4
sampled = 1
steps = 1
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
    app = typer.Typer()
    app.add_typer(train)

    def call(stage: str, *arguments: object) -> Result:
        fixed = (tmp_path / "shards", "-o", tmp_path / stage, "--config", config)
        all_arguments = ("train", stage, *fixed, "--device", "cpu", "--json", "-q", *arguments)
        return CliRunner().invoke(app, [str(argument) for argument in all_arguments])

    return call


def test_each_stage_stands_on_those_before(command, tmp_path):
    vae, base = ("--vae", tmp_path / "vae"), ("--base", tmp_path / "base")
    expected = {
        "vae": ((), {"vae.safetensors"}),
        "reference-views": (vae, {"unet.safetensors", "tower.safetensors"}),
        "base": (vae, {"unet.safetensors", "tower.safetensors"}),
        "coarse": ((*vae, *base), {"lora.safetensors"}),
        "fine": ((*vae, *base, "--branch", "t2i_adapter"), {"branch.safetensors"}),
    }
    for stage, (arguments, files) in expected.items():
        result = command(stage, *arguments)
        assert result.exit_code == 0, (stage, result.exception)
        told = json.loads(result.stdout)
        assert told["stage"] == stage
        assert {path.name for path in Path(told["weights"]).iterdir()} == files


def test_what_is_missing_is_told_with_the_command_that_makes_it(command, tmp_path):
    result = command("base", "--vae", tmp_path / "nothing")
    assert result.exception is not None
    failure = failure_of(result.exception)
    assert failure is not None
    assert failure.exit_code == 4
    assert "fourdvd train vae" in f"{failure}{getattr(result.exception, 'hint', '')}"
