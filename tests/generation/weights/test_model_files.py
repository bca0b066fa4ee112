"""Which files a plan's models are in: published ones, and those of a trained cascade."""

import shutil
from pathlib import Path

import pytest

from generation.presets import make_plan
from generation.settings import GenerateSettings
from generation.weights.cascade_files import BRANCH_FILE, LORA_FILE
from generation.weights.catalogue import expected_shapes
from generation.weights.model_files import find_cascade_file, find_model, open_models, trained_sizes
from generation.weights.store import PublishedWeights
from generation.weights.trained_weights import (
    BASE,
    REFERENCE_VIEWS,
    TOWER_FILES,
    UNET_FILES,
    VAE_FILE,
    TrainedWeights,
)
from recon.errors import WeightsError
from tests.generation.published_files import write_hollow
from tests.generation.tiny_trained import AUTOENCODER, GRID, ORBIT, TOWER, write_trained_cascade

MINI, CASCADE = GenerateSettings(model="mini"), GenerateSettings(model="4dvd")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_trained_cascade(tmp_path_factory.mktemp("cascade"))


@pytest.fixture
def folder(written, tmp_path) -> Path:
    return shutil.copytree(written, tmp_path / "cascade")


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    """Whatever this machine has, there are none."""
    monkeypatch.delenv("FOURDVD_WEIGHTS", raising=False)
    monkeypatch.setattr("generation.weights.store.find_in_cache", lambda model: None)


def test_the_models_of_a_trained_cascade_are_in_its_folder(folder):
    for name in (REFERENCE_VIEWS, BASE):
        assert find_model(name, folder) == folder / UNET_FILES[name]


@pytest.mark.parametrize("file", [UNET_FILES[BASE], TOWER_FILES[BASE], VAE_FILE])
def test_a_model_without_what_it_was_trained_with_is_not_here(folder, file):
    (folder / file).unlink()
    with pytest.raises(WeightsError, match=f"no {file} in {folder}"):
        find_model(BASE, folder)


def test_published_models_are_looked_for_by_their_own_names(tmp_path):
    write_hollow(tmp_path / "sv4d2.safetensors", expected_shapes("sv4d2"))
    assert find_model("sv4d2", tmp_path) == tmp_path / "sv4d2.safetensors"
    with pytest.raises(WeightsError, match="sv3d_u"):
        find_model("sv3d_u", tmp_path)


def test_files_of_a_trained_cascade_lie_beside_its_networks(folder, tmp_path, monkeypatch):
    """Not in the folder of the environment, where those for published networks may be."""
    (tmp_path / LORA_FILE).touch()
    (tmp_path / BRANCH_FILE).touch()
    monkeypatch.setenv("FOURDVD_WEIGHTS", str(tmp_path))
    mini, published = make_plan(MINI, 5), make_plan(CASCADE, 5)
    for name in mini.cascade_files:
        assert find_cascade_file(name, mini, folder) == folder / name
    (folder / BRANCH_FILE).unlink()
    assert find_cascade_file(BRANCH_FILE, published, folder) == tmp_path / BRANCH_FILE
    with pytest.raises(WeightsError, match=f"no {BRANCH_FILE} in {folder}") as caught:
        find_cascade_file(BRANCH_FILE, mini, folder)
    assert "`fourdvd train assemble`" in (caught.value.hint or "")


def test_all_models_of_a_plan_are_opened(folder, tmp_path):
    found = open_models(make_plan(MINI, 5), MINI, folder)
    assert list(found) == [REFERENCE_VIEWS, BASE]
    assert all(isinstance(each, TrainedWeights) for each in found.values())
    settings = GenerateSettings(model="sv4d2")
    write_hollow(tmp_path / "sv4d2.safetensors", expected_shapes("sv4d2"))
    published = open_models(make_plan(settings, 5), settings, tmp_path)
    assert list(published) == ["sv4d2"]
    assert isinstance(published["sv4d2"], PublishedWeights)


def test_sizes_are_told_of_a_trained_cascade_alone(folder):
    found = trained_sizes(make_plan(MINI, 5), folder)
    assert (found[REFERENCE_VIEWS].config, found[BASE].config) == (ORBIT, GRID)
    assert {each.autoencoder for each in found.values()} == {AUTOENCODER}
    assert {each.tower_config for each in found.values()} == {TOWER}
    assert trained_sizes(make_plan(CASCADE, 5), folder) == {}
