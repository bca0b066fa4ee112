"""Published and trained weights are opened, described and loaded through one interface."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from generation.lift.network import build_network
from generation.networks import Architecture
from generation.weights import files
from generation.weights.catalogue import LIFT_FILE, VAE_FILE, expected_shapes, published
from generation.weights.model_weights import (
    PublishedWeights,
    TrainedWeights,
    find_architecture,
    open_lift,
    open_model,
    open_models,
    open_published,
    open_trained,
)
from generation.weights.verify import file_sha256
from recon.errors import WeightsError
from tests.generation.lift.tiny_network import TINY_LIFT
from tests.generation.models.random_weights import numbers
from tests.generation.tiny_trained import (
    AUTOENCODER,
    BASE,
    CHANNELS,
    GRID,
    IMAGE_ENCODER,
    IMAGE_ENCODER_FILES,
    ORBIT,
    REFERENCE_VIEWS,
    SCALE,
    UNET_FILES,
    write_autoencoder,
    write_image_encoder,
    write_trained_cascade,
    write_unet,
)
from tests.generation.weights.published_files import tiny_shapes, write_hollow, write_tiny

CPU = torch.device("cpu")
SV4D2 = published["sv4d2"]
UNET = "model.diffusion_model."
FILES = (UNET_FILES[BASE], IMAGE_ENCODER_FILES[BASE], VAE_FILE)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_trained_cascade(tmp_path_factory.mktemp("cascade"))


@pytest.fixture
def folder(written, tmp_path) -> Path:
    return shutil.copytree(written, tmp_path / "cascade")


# -- published


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.float16, torch.bfloat16])
def test_a_part_has_its_tensors_without_the_prefix_in_the_wanted_type(tmp_path, stored, wanted):
    tensors = write_tiny(tmp_path / "x.safetensors", stored)
    weights = open_published(tmp_path / "x.safetensors", SV4D2, tiny_shapes())
    part = weights.part(UNET, wanted, "cpu")
    assert part.keys() == {key.removeprefix(UNET) for key in tensors if key.startswith(UNET)}
    for key, tensor in part.items():
        assert tensor.dtype == wanted
        assert torch.equal(tensor, tensors[UNET + key].to(wanted))


def test_tensors_outlive_the_weights_and_writing_to_them_leaves_the_file_alone(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = write_tiny(path)
    before = path.read_bytes()
    part = open_published(path, SV4D2, tiny_shapes()).part(UNET, torch.float32, "cpu")
    assert torch.equal(part["out.2.bias"], tensors[f"{UNET}out.2.bias"])
    part["out.2.bias"].zero_()
    assert path.read_bytes() == before


def test_a_part_that_needs_no_conversion_is_mapped_not_copied(tmp_path):
    path = tmp_path / "x.safetensors"
    shapes = {f"{UNET}a": (64, 1024, 1024)}  # 256 MiB, a hole in the file
    weights = open_published(write_hollow(path, shapes), published["sv3d_u"], shapes)
    before = psutil.Process().memory_info().rss
    part = weights.part(UNET, torch.float32, "cpu")
    assert psutil.Process().memory_info().rss - before < 32 * 2**20
    assert part["a"][-1, -1, -1] == 0


def test_published_weights_are_identified_by_size_and_hash(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tiny(path)
    weights = open_published(path, SV4D2, tiny_shapes())
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (weights.name, weights.path) == ("sv4d2", path)
    assert weights.identity == path.stat().st_size


def test_a_file_of_another_model_is_not_opened(tmp_path):
    write_tiny(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="not the weights of sv3d_u"):
        open_published(tmp_path / "x.safetensors", published["sv3d_u"])


@pytest.mark.parametrize("name", published)
def test_the_architecture_of_a_published_model_has_its_tensors_and_no_others(name):
    found = find_architecture(name)
    expected = {
        key.removeprefix(UNET): shape
        for key, shape in expected_shapes(name).items()
        if key.startswith(UNET)
    }
    with torch.device("meta"):
        state = found.build_unet().state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == expected
    assert found.separate_reference_encoder == name.startswith("sv4d")


def test_models_of_either_origin_are_opened_by_name(folder, tmp_path):
    write_hollow(tmp_path / "sv4d2.safetensors", expected_shapes("sv4d2"))
    assert isinstance(open_model("sv4d2", tmp_path), PublishedWeights)
    found = open_models([REFERENCE_VIEWS, BASE], folder)
    assert list(found) == [REFERENCE_VIEWS, BASE]
    assert all(isinstance(each, TrainedWeights) for each in found.values())


# -- trained


class HeaderOnly:
    """A safetensors file whose tensors cannot be read."""

    def __init__(self, path: Path, framework: str):
        self.file = safe_open(path, framework=framework)

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def metadata(self) -> dict[str, str]:
        return self.file.metadata()


@pytest.mark.parametrize(("name", "config"), [(REFERENCE_VIEWS, ORBIT), (BASE, GRID)])
def test_opening_describes_the_networks_and_reads_no_tensor(folder, monkeypatch, name, config):
    monkeypatch.setattr(files, "safe_open", HeaderOnly)
    found = open_trained(name, folder)
    assert (found.name, found.path) == (name, folder / UNET_FILES[name])
    assert found.architecture == Architecture(config, AUTOENCODER, IMAGE_ENCODER)
    assert found.architecture == find_architecture(name, folder)
    assert found.sha256 == file_sha256(folder / UNET_FILES[name])


@pytest.mark.parametrize("name", [REFERENCE_VIEWS, BASE])
def test_networks_have_the_weights_in_the_files(folder, name):
    networks = open_trained(name, folder).load(CPU, torch.float32)
    parts = {"encoder.": networks.encoder, "decoder.": networks.decoder.decoder}
    found = {
        prefix + key: each
        for prefix, part in parts.items()
        for key, each in part.state_dict().items()  # type: ignore[operator, union-attr]
    }
    torch.testing.assert_close(found, load_file(folder / VAE_FILE), rtol=0, atol=0)
    for network, file in (
        (networks.unet, UNET_FILES[name]),
        (networks.image_encoder, IMAGE_ENCODER_FILES[name]),
    ):
        torch.testing.assert_close(network.state_dict(), load_file(folder / file), rtol=0, atol=0)


def test_images_become_latents_and_tokens_and_latents_images(folder):
    networks = open_trained(BASE, folder).load(CPU, torch.float32)
    images = numbers(2, 3, 64, 64).clamp(-1, 1)
    latents = networks.latents(images)
    assert latents.shape == (2, CHANNELS, 8, 8)
    assert torch.equal(networks.reference_latents(images), latents)
    assert networks.tokens(images).shape == (2, GRID.context_dim)
    with torch.inference_mode():
        expected = networks.decoder.decoder(latents).clamp(-1, 1)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(networks.images(SCALE * latents), expected)


def test_only_unet_and_image_encoder_become_less_precise(folder):
    networks = open_trained(BASE, folder).load(CPU, torch.bfloat16)
    parts = (networks.unet, networks.image_encoder, networks.encoder, networks.decoder)
    dtypes = [{each.dtype for each in part.parameters()} for part in parts]
    assert networks.tokens(numbers(1, 3, 16, 16)).dtype == torch.float32
    assert dtypes == [{torch.bfloat16}, {torch.bfloat16}, {torch.float32}, {torch.float32}]


def test_unet_and_image_encoder_must_be_for_the_autoencoder(folder):
    write_autoencoder(folder / VAE_FILE, seed=9)
    expected = file_sha256(folder / VAE_FILE)
    for name in (REFERENCE_VIEWS, BASE):
        with pytest.raises(WeightsError, match=f"{UNET_FILES[name]}.*{expected}"):
            open_trained(name, folder).load(CPU, torch.float32)
    write_unet(folder, BASE)
    with pytest.raises(WeightsError, match=f"{IMAGE_ENCODER_FILES[BASE]}.*{expected}"):
        open_trained(BASE, folder).load(CPU, torch.float32)


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named(folder, file):
    (folder / file).write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=file):
        open_trained(BASE, folder)


def test_confused_files_are_refused(folder):
    (folder / UNET_FILES[REFERENCE_VIEWS]).replace(folder / UNET_FILES[BASE])
    with pytest.raises(WeightsError, match="kind sv4d, found sv3d"):
        open_trained(BASE, folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write_unet(folder, BASE, seed=9),
        lambda folder: write_image_encoder(folder, BASE, seed=9),
        lambda folder: write_autoencoder(folder / VAE_FILE, seed=9),
    ],
    ids=["UNet", "image encoder", "autoencoder"],
)
def test_other_numbers_in_any_file_change_the_identity(folder, change: Callable[[Path], None]):
    identity = open_trained(BASE, folder).identity
    assert open_trained(BASE, folder).identity == identity
    assert open_trained(REFERENCE_VIEWS, folder).identity != identity
    change(folder)
    assert open_trained(BASE, folder).identity != identity


def test_the_network_of_lift_predicts_the_same_after_a_round_trip_in_half_precision(tmp_path):
    network = build_network(TINY_LIFT).eval()
    path = tmp_path / LIFT_FILE
    files.save_weights(path, network.config, network.state_dict(), dtype=torch.float16)
    file = open_lift(tmp_path)
    assert (file.config, file.sha256) == (network.config, file_sha256(path))
    image, elevation = torch.rand(2, 4, 32, 32), torch.tensor([0.0, 0.2])
    with torch.no_grad():
        expected, found = network(image, elevation), file.build()(image, elevation)
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)


def test_damaged_files_and_other_kinds_are_no_network_of_lift(tmp_path):
    write_autoencoder(tmp_path / LIFT_FILE)
    with pytest.raises(WeightsError, match="lift, found vae"):
        open_lift(tmp_path)
    (tmp_path / LIFT_FILE).write_bytes((tmp_path / LIFT_FILE).read_bytes()[:-8])
    with pytest.raises(WeightsError, match=str(tmp_path / LIFT_FILE)):
        open_lift(tmp_path)
