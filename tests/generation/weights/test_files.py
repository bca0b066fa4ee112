"""Weights are read back unchanged, older formats are read, and wrong files are refused."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from generation.lift.network import build_network
from generation.models.image_encoders import ConvImageEncoder, ConvImageEncoderConfig
from generation.models.lora import add_lora, has_lora, lora_parameters, lora_settings, lora_state
from generation.models.patch_autoencoder import (
    PatchAutoencoder,
    PatchAutoencoderConfig,
    ScaledDecoder,
)
from generation.models.structure_branch import BRANCHES, build_branch
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DUNet
from generation.weights.files import (
    FORMAT,
    VERSION,
    describe,
    load_branch,
    load_lora,
    save_weights,
)
from generation.weights.verify import file_sha256
from recon.errors import OutputExistsError, WeightsError
from tests.generation.lift.tiny_network import TINY_LIFT
from tests.generation.models.random_weights import numbers, with_random_weights
from tests.generation.models.small_unets import SV4D, sv4d, sv4d_inputs
from tests.generation.tiny_trained import GRID, ORBIT

CONFIG = SV4D["sv4d"]
ENCODER = ConvImageEncoderConfig(8, (32,), 8)
BASE, OTHER = 64 * "a", 64 * "b"
SCALE = 0.1 + 0.2  # has no short decimal form
VAE = PatchAutoencoderConfig(2, 12, 4, 1, 1, latent_scale=SCALE)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vae": lambda: PatchAutoencoder(VAE),
    "sv3d": lambda: SV3DUNet(ORBIT),
    "sv4d": lambda: SV4DUNet(GRID),
    "image-encoder": lambda: ConvImageEncoder(ENCODER),
    "lift": lambda: build_network(TINY_LIFT),
    "lift without image encoder": lambda: build_network(replace(TINY_LIFT, encoder=False)),
}
OLDER = ("sv3d", "sv4d", "image-encoder", "vae", "lora", "structure-branch")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "weights.safetensors"


@pytest.fixture
def encoder(path) -> Path:
    """An image encoder, for the VAE `BASE`."""
    save_weights(path, ENCODER, ConvImageEncoder(ENCODER).state_dict(), {"vae": BASE})
    return path


@pytest.fixture
def lora(path) -> Path:
    network = with_lora()
    save_weights(path, lora_settings(network), lora_state(network), {"base": BASE})
    return path


@pytest.fixture
def branch(path) -> Path:
    network = build_branch("layerwise", CONFIG)
    save_weights(path, network.settings, network.state_dict(), {"base": BASE})
    return path


def with_lora() -> SV4DUNet:
    network = sv4d("sv4d")
    add_lora(network, 3, 6.5)
    for index, parameter in enumerate(lora_parameters(network)):
        parameter.data = 0.2 * numbers(*parameter.shape, seed=index)
    return network


def rewrite(path: Path, **changes: str | None) -> None:
    """Write the same tensors with other metadata; None removes an entry."""
    with safe_open(path, framework="pt") as file:
        old = file.metadata() or {}
    metadata = {key: text for key, text in {**old, **changes}.items() if text is not None}
    save_file({key: tensor.clone() for key, tensor in load_file(path).items()}, path, metadata)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_comes_back_with_its_config_and_numbers_and_frozen(path, kind):
    network = with_random_weights(NETWORKS[kind]())
    save_weights(path, network.config, network.state_dict(), {"vae": BASE})
    kind = kind.partition(" ")[0]
    file = describe(path, kind)
    assert (file.kind, file.requires) == (kind, {"vae": BASE})
    assert file.config == network.config
    assert file.sha256 == file_sha256(path)
    found = file.build()
    assert found.config == network.config
    torch.testing.assert_close(found.state_dict(), network.state_dict(), rtol=0, atol=0)
    assert not found.training
    assert not any(each.requires_grad for each in found.parameters())


def test_half_precision_is_read_as_float32_unless_asked_otherwise(path):
    network = ConvImageEncoder(ENCODER)
    save_weights(path, ENCODER, network.state_dict(), dtype=torch.float16)
    for name, each in describe(path).build().state_dict().items():
        assert each.dtype == torch.float32
        assert torch.equal(each, network.state_dict()[name].half().float())
    assert {each.dtype for each in describe(path).tensors(torch.bfloat16).values()} == {
        torch.bfloat16
    }


def test_the_scaled_decoder_inverts_the_scale():
    network = with_random_weights(PatchAutoencoder(VAE))
    latents = network.encoder(numbers(1, 3, 4, 4))
    expected = network.decoder(latents)
    torch.testing.assert_close(ScaledDecoder(network)(SCALE * latents), expected)


def test_equal_weights_are_equal_bytes(path, tmp_path):
    state = ConvImageEncoder(ENCODER).state_dict()
    for each in (path, tmp_path / "again.safetensors"):
        save_weights(each, ENCODER, state, {"vae": BASE})
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_the_metadata_describes_the_file(lora):
    with safe_open(lora, framework="pt") as file:
        assert file.metadata() == {
            "format": FORMAT,
            "version": VERSION,
            "kind": "lora",
            "config": '{"rank": 3, "alpha": 6.5}',
            "requires": json.dumps({"base": BASE}),
        }


def test_a_file_is_replaced_only_on_request(encoder):
    with pytest.raises(OutputExistsError):
        save_weights(encoder, ENCODER, {})
    save_weights(encoder, ENCODER, {}, overwrite=True)
    assert describe(encoder).tensors() == {}


def test_a_lora_comes_back_with_its_rank_and_its_effect(lora):
    network = sv4d("sv4d")
    load_lora(lora, network, BASE)
    assert lora_settings(network) == lora_settings(with_lora())
    inputs = sv4d_inputs()
    assert torch.equal(network(**inputs), with_lora()(**inputs))


@pytest.mark.parametrize("roles", ["reference_query", "feature_query"])
@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_comes_back_with_every_number_and_frozen(path, name: str, roles: str):
    saved = with_random_weights(build_branch(name, CONFIG, roles))
    save_weights(path, saved.settings, saved.state_dict(), {"base": BASE})
    found = load_branch(path, CONFIG, BASE)
    assert found.settings == saved.settings
    torch.testing.assert_close(found.state_dict(), saved.state_dict(), rtol=0, atol=0)
    assert not any(p.requires_grad for p in found.parameters())
    assert load_branch(path, CONFIG, BASE, torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", OLDER)
def test_files_of_older_formats_are_read_like_current_ones(path, kind):
    """Metadata of a file as older versions wrote it."""
    role = {"vae": None, "lora": "base", "structure-branch": "base"}.get(kind, "vae")
    requires = {role: BASE} if role else {}
    config: Any
    if kind == "lora":
        config, tensors = lora_settings(with_lora()), lora_state(with_lora())
    elif kind == "structure-branch":
        network = build_branch("layerwise", CONFIG)
        config, tensors = network.settings, network.state_dict()
    else:
        network = NETWORKS[kind]()
        config, tensors = network.config, network.state_dict()
    save_weights(path, config, tensors, requires)
    current = describe(path)
    values = asdict(config)
    if kind in ("lora", "structure-branch"):
        metadata = {
            "format": f"fourdvd-{kind}",
            "base_sha256": BASE,
            "hyper_parameters": json.dumps(values),
        }
    elif kind == "vae":
        scale = repr(values.pop("latent_scale"))
        metadata = {"format": "fourdvd-vae", "config": json.dumps(values), "scale": scale}
    else:
        metadata = {
            "format": "fourdvd-network",
            "kind": {"image-encoder": "token-tower"}.get(kind, kind),
            "config": json.dumps(values),
            "vae_sha256": BASE,
        }
    save_file(load_file(path), path, {**metadata, "version": "1"})
    assert describe(path, kind) == current
    torch.testing.assert_close(describe(path).tensors(), dict(tensors), rtol=0, atol=0)


def test_weights_trained_with_another_file_are_refused_with_both_hashes(encoder):
    describe(encoder).check_requires(vae=BASE)
    with pytest.raises(WeightsError, match=f"{OTHER}.*{BASE}"):
        describe(encoder).check_requires(vae=OTHER)
    with pytest.raises(WeightsError, match=f"{BASE}.*None"):
        describe(encoder).check_requires(base=BASE)


def test_lora_and_branch_for_another_base_are_refused(lora, tmp_path):
    network, branch = build_branch("layerwise", CONFIG), tmp_path / "branch.safetensors"
    save_weights(branch, network.settings, network.state_dict(), {"base": BASE})
    for load in (
        lambda: load_lora(lora, sv4d("sv4d"), OTHER),
        lambda: load_branch(branch, CONFIG, OTHER),
    ):
        with pytest.raises(WeightsError, match=f"{OTHER}.*{BASE}"):
            load()


def test_one_kind_does_not_pass_for_another(lora):
    with pytest.raises(WeightsError, match="structure-branch, found lora"):
        load_branch(lora, CONFIG, BASE)
    with pytest.raises(WeightsError, match="sv4d, found lora"):
        describe(lora, "sv4d")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "pt"},
        {"format": None},
        {"version": "2"},
        {"version": None},
        {"format": "fourdvd-network", "version": "2"},
        {"kind": "decoder"},
        {"kind": None},
        {"config": None},
        {"config": "{"},
        {"config": "[]"},
        {"config": "{}"},
        {"config": json.dumps({"side": 8})},
        {"config": json.dumps(asdict(ENCODER) | {"side": "8"})},
        {"config": json.dumps(asdict(ENCODER) | {"side": 3})},
        {"requires": None},
        {"requires": "{"},
        {"requires": "[1]"},
    ],
)
def test_unknown_or_damaged_metadata_is_refused(encoder, changes):
    rewrite(encoder, **changes)
    with pytest.raises(WeightsError, match=str(encoder)):
        describe(encoder)


@pytest.mark.parametrize("config", ['{"rank": 0, "alpha": 1}', '{"rank": 2, "alpha": null}'])
def test_lora_settings_out_of_range_are_refused(lora, config):
    rewrite(lora, config=config)
    with pytest.raises(WeightsError, match=str(lora)):
        load_lora(lora, sv4d("sv4d"), BASE)


@pytest.mark.parametrize("scale", ["large", "nan", "inf", "0.0", "-1.0"])
def test_latent_scales_out_of_range_are_refused(path, scale):
    config = asdict(VAE)
    del config["latent_scale"]
    metadata = {"format": "fourdvd-vae", "version": "1", "config": json.dumps(config)}
    save_file({}, path, metadata | {"scale": scale})
    with pytest.raises(WeightsError, match=str(path)):
        describe(path)


def test_configs_without_a_network_are_refused(path):
    save_weights(path, replace(VAE, width=4.5), {})  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=str(path)):
        describe(path).build()


def test_a_full_device_is_not_taken_for_damaged_weights(encoder, monkeypatch):
    def full(*arguments, **named):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(torch.OutOfMemoryError):
        describe(encoder).build(device="cuda")


def test_tensors_of_another_size_are_refused_and_the_network_is_left_alone(path, lora):
    file = describe(lora)
    save_weights(path, replace(file.config, rank=4), file.tensors(), file.requires, overwrite=True)
    network, inputs = sv4d("sv4d"), sv4d_inputs()
    with pytest.raises(WeightsError, match=r"4×64.*3×64"):
        load_lora(path, network, BASE)
    assert not has_lora(network)
    with torch.inference_mode():  # with gradients, sums are in another order
        assert torch.equal(network(**inputs), sv4d("sv4d")(**inputs))


def test_a_branch_for_a_network_of_another_size_is_refused(branch):
    with pytest.raises(WeightsError, match=f"{branch}"):
        load_branch(branch, replace(CONFIG, model_channels=32), BASE)


def test_a_network_of_another_size_is_refused(encoder):
    file = describe(encoder)
    save_weights(encoder, replace(ENCODER, token=16), file.tensors(), overwrite=True)
    with pytest.raises(WeightsError, match=f"{encoder}: .*ConvImageEncoder"):
        describe(encoder).build()


def test_files_that_are_cut_off_missing_foreign_or_of_integers_are_refused(encoder, tmp_path):
    content = encoder.read_bytes()
    for wrong in (content[:-8], b"", b"no tensors at all"):
        encoder.write_bytes(wrong)
        with pytest.raises(WeightsError, match=str(encoder)):
            describe(encoder)
    with pytest.raises(WeightsError, match="none"):
        describe(tmp_path / "none.safetensors")
    save_file({"x": torch.zeros(1, dtype=torch.int64)}, encoder, {"format": FORMAT})
    with pytest.raises(WeightsError, match="x is I64"):
        describe(encoder)
