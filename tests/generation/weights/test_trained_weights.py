"""A trained cascade is found, opened and read whole, and what is not whole is told."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from generation.weights import files
from generation.weights.cascade_files import LORA_FILE
from generation.weights.store import file_sha256
from generation.weights.trained_weights import (
    BASE,
    FILES,
    OURS,
    REFERENCE_VIEWS,
    TOWER_FILES,
    UNET_FILES,
    VAE_FILE,
    load_trained,
    mini_folder,
    open_trained,
    trained_folder,
)
from recon.errors import WeightsError
from tests.generation.models.random_weights import numbers
from tests.generation.tiny_trained import (
    AUTOENCODER,
    CHANNELS,
    GRID,
    ORBIT,
    SCALE,
    TOWER,
    write_autoencoder,
    write_tower,
    write_trained_cascade,
    write_unet,
)

CPU = torch.device("cpu")


class NotesAlone:
    """A safetensors file whose tensors cannot be asked for."""

    def __init__(self, path: Path, framework: str):
        self.file = safe_open(path, framework=framework)

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def metadata(self) -> dict[str, str]:
        return self.file.metadata()


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_trained_cascade(tmp_path_factory.mktemp("cascade"))


@pytest.fixture
def folder(written, tmp_path) -> Path:
    return shutil.copytree(written, tmp_path / "cascade")


def test_all_files_of_a_cascade_are_there(folder):
    assert {path.name for path in folder.iterdir()} == set(FILES)


@pytest.mark.parametrize(("name", "config"), [(REFERENCE_VIEWS, ORBIT), (BASE, GRID)])
def test_opening_tells_the_sizes_and_reads_no_tensor(folder, monkeypatch, name, config):
    monkeypatch.setattr(files, "safe_open", NotesAlone)
    found = open_trained(folder, name)
    assert (found.name, found.path) == (name, folder / UNET_FILES[name])
    assert (found.config, found.tower_config, found.autoencoder) == (config, TOWER, AUTOENCODER)
    assert found.sha256() == file_sha256(folder / UNET_FILES[name])


@pytest.mark.parametrize("name", [REFERENCE_VIEWS, BASE])
def test_networks_have_the_numbers_that_were_written(folder, name):
    networks = load_trained(open_trained(folder, name), CPU, torch.float32)
    parts = {"encoder.": networks.encoder, "decoder.": networks.decoder.decoder}
    found = {
        prefix + key: each
        for prefix, part in parts.items()
        for key, each in part.state_dict().items()  # type: ignore[operator, union-attr]
    }
    torch.testing.assert_close(found, load_file(folder / VAE_FILE), rtol=0, atol=0)
    for network, file in ((networks.unet, UNET_FILES[name]), (networks.tower, TOWER_FILES[name])):
        torch.testing.assert_close(network.state_dict(), load_file(folder / file), rtol=0, atol=0)


def test_images_become_latents_and_tokens_and_latents_images(folder):
    networks = load_trained(open_trained(folder, BASE), CPU, torch.float32)
    images = numbers(2, 3, 64, 64).clamp(-1, 1)
    latents = networks.latents(images)
    assert latents.shape == (2, CHANNELS, 8, 8)
    assert torch.equal(networks.reference_latents(images), latents)
    assert networks.tokens(images).shape == (2, GRID.context_dim)
    with torch.inference_mode():
        expected = networks.decoder.decoder(latents).clamp(-1, 1)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(networks.images(SCALE * latents), expected)


def test_only_unet_and_tower_become_less_precise(folder):
    networks = load_trained(open_trained(folder, BASE), CPU, torch.bfloat16)
    parts = (networks.unet, networks.tower, networks.encoder, networks.decoder)
    dtypes = [{each.dtype for each in part.parameters()} for part in parts]
    assert networks.tokens(numbers(1, 3, 16, 16)).dtype == torch.float32
    assert dtypes == [{torch.bfloat16}, {torch.bfloat16}, {torch.float32}, {torch.float32}]


def test_networks_of_another_autoencoder_are_refused(folder):
    write_autoencoder(folder / VAE_FILE, seed=9)
    expected = file_sha256(folder / VAE_FILE)
    for name in (REFERENCE_VIEWS, BASE):
        with pytest.raises(WeightsError, match=f"vae of sha256 {expected}"):
            load_trained(open_trained(folder, name), CPU, torch.float32)


def test_the_tower_too_must_be_of_the_autoencoder(folder):
    write_autoencoder(folder / VAE_FILE, seed=9)
    write_unet(folder, BASE)
    with pytest.raises(WeightsError, match=f"{TOWER_FILES[BASE]}.*vae of sha256"):
        load_trained(open_trained(folder, BASE), CPU, torch.float32)


@pytest.mark.parametrize("file", [UNET_FILES[BASE], TOWER_FILES[BASE], VAE_FILE])
def test_a_missing_file_is_named_with_the_command_that_makes_it(folder, file):
    (folder / file).unlink()
    with pytest.raises(WeightsError, match=f"no {file} in {folder}") as caught:
        open_trained(folder, BASE)
    assert "`fourdvd train assemble`" in (caught.value.hint or "")


@pytest.mark.parametrize("file", [UNET_FILES[BASE], TOWER_FILES[BASE], VAE_FILE])
def test_a_damaged_file_is_named(folder, file):
    (folder / file).write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=file):
        open_trained(folder, BASE)


def test_files_that_were_mixed_up_are_refused(folder):
    (folder / UNET_FILES[REFERENCE_VIEWS]).replace(folder / UNET_FILES[BASE])
    with pytest.raises(WeightsError, match="kind sv4d, found sv3d"):
        open_trained(folder, BASE)


@pytest.mark.parametrize("file", OURS)
def test_a_named_folder_is_taken_if_it_holds_a_file_of_a_trained_cascade(tmp_path, file):
    (tmp_path / file).touch()
    assert trained_folder(tmp_path) == trained_folder(str(tmp_path)) == tmp_path


def test_the_packages_own_folder_is_taken_else(tmp_path):
    for published in ("sv4d2.safetensors", "sv4d.safetensors", LORA_FILE):
        (tmp_path / published).touch()
    assert trained_folder(tmp_path) == trained_folder() == mini_folder()
    assert mini_folder().parent == Path(files.__file__).parent.parent


def test_a_named_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"none does not exist; check --weights"):
        trained_folder(tmp_path / "none")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write_unet(folder, BASE, seed=9),
        lambda folder: write_tower(folder, BASE, seed=9),
        lambda folder: write_autoencoder(folder / VAE_FILE, seed=9),
    ],
    ids=["UNet", "tower", "autoencoder"],
)
def test_other_numbers_in_any_file_make_other_weights(folder, change: Callable[[Path], None]):
    before = open_trained(folder, BASE)
    identity = before.identity
    assert open_trained(folder, BASE).identity == identity
    assert open_trained(folder, REFERENCE_VIEWS).identity != identity
    change(folder)
    assert before.identity != identity
