"""An autoencoder comes back from its file as it was, and nothing else is taken for one."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from generation.models.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig
from generation.weights.trained_autoencoder import (
    FORMAT,
    VERSION,
    ScaledDecoder,
    load_autoencoder,
    read_autoencoder_config,
    save_autoencoder,
)
from recon.errors import WeightsError
from tests.generation.models.random_weights import numbers, with_random_weights

SMALL = PatchAutoencoderConfig(2, 12, 4, encoder_blocks=1, decoder_blocks=1)
SCALE = 0.1 + 0.2  # whose digits do not end soon


@pytest.fixture
def network() -> PatchAutoencoder:
    return with_random_weights(PatchAutoencoder(SMALL))


@pytest.fixture
def path(network, tmp_path) -> Path:
    """A sound file."""
    save_autoencoder(tmp_path / "vae.safetensors", SMALL, SCALE, network.state_dict())
    return tmp_path / "vae.safetensors"


def rewrite(path: Path, **changes: str | None) -> None:
    """The same tensors with other notes; None takes one away."""
    with safe_open(path, framework="pt") as file:
        notes = file.metadata() | changes
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {key: value for key, value in notes.items() if value is not None})


def test_network_scale_and_sizes_are_read_as_they_were_written(network, path):
    found = load_autoencoder(path)
    assert found.network.config == read_autoencoder_config(path) == SMALL
    assert found.scale == SCALE
    torch.testing.assert_close(found.network.state_dict(), network.state_dict(), rtol=0, atol=0)
    images = numbers(1, 3, 6, 4)
    with torch.no_grad():
        assert torch.equal(found.network.encoder(images), network.encoder(images))


def test_what_is_read_is_frozen_and_in_evaluation(path):
    found = load_autoencoder(path).network
    assert not found.training
    assert not any(each.requires_grad for each in found.parameters())


def test_half_precision_is_read_as_float32(network, path):
    half = {name: each.half() for name, each in network.state_dict().items()}
    save_autoencoder(path, SMALL, SCALE, half)
    for name, each in load_autoencoder(path).network.state_dict().items():
        assert each.dtype == torch.float32
        assert torch.equal(each, half[name].float())


def test_the_scaled_decoder_takes_what_the_encoder_made_times_the_scale(network):
    latents = network.encoder(numbers(1, 3, 4, 4))
    expected = network.decoder(latents)
    torch.testing.assert_close(ScaledDecoder(network.decoder, SCALE)(SCALE * latents), expected)


def test_sizes_are_read_without_tensors(path):
    save_file({}, path, {
        "format": FORMAT, "version": VERSION, "config": json.dumps(asdict(SMALL)), "scale": "1.0",
    })  # fmt: skip
    assert read_autoencoder_config(path) == SMALL
    with pytest.raises(WeightsError, match=r"vae\.safetensors"):
        load_autoencoder(path)


def both_refuse(path: Path, sentence: str) -> None:
    for read in (load_autoencoder, read_autoencoder_config):
        with pytest.raises(WeightsError, match=rf"^\S*vae\.safetensors: ({sentence})"):
            read(path)


@pytest.mark.parametrize(
    "notes",
    [
        {"format": "fourdvd-network"},
        {"format": None},
        {"version": "2"},
        {"version": None},
    ],
)
def test_another_thing_or_version_is_told_with_the_command_that_makes_ours(path, notes):
    rewrite(path, **notes)
    both_refuse(path, "expected fourdvd-vae of version 1; `fourdvd train vae`")


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        "[]",
        "{",
        json.dumps({"side": 8}),
        json.dumps(asdict(SMALL) | {"patch": "2"}),
        json.dumps(asdict(SMALL) | {"patch": 3}),
    ],
)
def test_damaged_sizes_are_told(path, config):
    rewrite(path, config=config)
    both_refuse(path, "not an autoencoder|expected an even patch")


def test_sizes_of_which_no_network_can_be_built_are_told(path):
    rewrite(path, config=json.dumps(asdict(SMALL) | {"width": 4.5}))
    with pytest.raises(WeightsError, match=r"vae\.safetensors: not an autoencoder"):
        load_autoencoder(path)


@pytest.mark.parametrize("scale", [None, "", "large", "nan", "inf", "0.0", "-1.0"])
def test_a_scale_that_is_none_is_told(path, scale):
    rewrite(path, scale=scale)
    both_refuse(path, "not an autoencoder|expected a scale above 0")


@pytest.mark.parametrize("content", [None, b"", b"no tensors at all"])
def test_a_missing_or_foreign_file_is_told(tmp_path, content):
    path = tmp_path / "vae.safetensors"
    if content is not None:
        path.write_bytes(content)
    both_refuse(path, "not an autoencoder")


def test_a_file_that_is_cut_short_is_told(path):
    path.write_bytes(path.read_bytes()[:-10])
    both_refuse(path, "not an autoencoder")


def test_tensors_of_another_network_are_told(path):
    rewrite(path, config=json.dumps(asdict(SMALL) | {"width": 8}))
    assert read_autoencoder_config(path).width == 8
    with pytest.raises(WeightsError, match=r"vae\.safetensors.*do not fit PatchAutoencoder"):
        load_autoencoder(path)
