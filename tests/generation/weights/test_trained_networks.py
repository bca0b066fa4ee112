"""Networks come back from their files as they were, and nothing else is taken for them."""

import json

import pytest
import torch
from safetensors.torch import save_file

from generation.models.image_encoders import ConvImageEncoder, ConvImageEncoderConfig
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.weights.store import file_sha256
from generation.weights.trained_networks import FORMAT, VERSION, load_network, save_network
from recon.errors import OutputExistsError, WeightsError

SMALL = SV4DConfig(
    model_channels=32, channel_mult=(1,), num_res_blocks=1, num_head_channels=16, context_dim=8,
    use_camera_emb=True,
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.safetensors"


def test_a_network_is_read_with_its_sizes_and_numbers(path):
    unet = SV4DUNet(SMALL)
    save_network(path, unet, unet.state_dict(), "abc")
    found = load_network(path, "sv4d", "abc")
    assert (found.vae_sha256, found.sha256) == ("abc", file_sha256(path))
    assert found.network.config == SMALL
    torch.testing.assert_close(found.network.state_dict(), unet.state_dict())
    assert not any(each.requires_grad for each in found.network.parameters())


def test_half_precision_is_read_as_float32(path):
    tower = ConvImageEncoder(ConvImageEncoderConfig(8, (32,), 8))
    save_network(path, tower, tower.state_dict(), "abc", torch.float16)
    found = load_network(path, "token-tower").network
    assert {each.dtype for each in found.parameters()} == {torch.float32}


def test_an_existing_file_is_kept(path):
    tower = ConvImageEncoder(ConvImageEncoderConfig(8, (32,), 8))
    save_network(path, tower, tower.state_dict(), "abc")
    with pytest.raises(OutputExistsError):
        save_network(path, tower, tower.state_dict(), "abc")


def test_another_kind_or_autoencoder_is_refused(path):
    tower = ConvImageEncoder(ConvImageEncoderConfig(8, (32,), 8))
    save_network(path, tower, tower.state_dict(), "abc")
    with pytest.raises(WeightsError, match="expected sv4d as its kind, found token-tower"):
        load_network(path, "sv4d")
    with pytest.raises(WeightsError, match="expected other as its vae_sha256, found abc"):
        load_network(path, "token-tower", "other")


@pytest.mark.parametrize("config", ["", "[]", json.dumps({"side": 8})])
def test_a_damaged_config_is_told(path, config):
    notes = {"format": FORMAT, "version": VERSION, "kind": "token-tower", "config": config}
    save_file({"x": torch.zeros(1)}, path, notes | {"vae_sha256": "abc"})
    with pytest.raises(WeightsError, match=r"network\.safetensors"):
        load_network(path, "token-tower")


def test_a_missing_or_damaged_file_is_told(path):
    with pytest.raises(WeightsError, match=r"network\.safetensors"):
        load_network(path, "sv3d")
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"network\.safetensors"):
        load_network(path, "sv3d")
