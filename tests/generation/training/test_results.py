"""Five finished trainings are assembled in one folder if they match each other."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from generation.training.cascade_stages import CoarseStage, FineStage
from generation.training.engine import train
from generation.training.results import (
    IMAGE_ENCODER_NAME,
    SOURCES,
    UNET_NAME,
    assemble,
    trained_file,
)
from generation.training.stage_networks import open_base
from generation.training.unet_stages import ReferenceViewsStage
from generation.weights.catalogue import CASCADE_FILES
from generation.weights.files import describe, save_weights
from generation.weights.model_weights import open_trained
from recon.errors import OutputExistsError, WeightsError
from tests.generation.training.tiny_stages import COARSE, ENGINE, FINE, ORBIT

STAGES = ("vae", "reference-views", "base", "coarse", "fine")


@pytest.fixture(scope="module")
def sound(tiny_shards, tiny_vae, tiny_base, tmp_path_factory) -> Path:
    """A finished training of each stage; not to be changed."""
    folder = tmp_path_factory.mktemp("trainings")
    shutil.copytree(tiny_vae, folder / "vae")
    shutil.copytree(tiny_base, folder / "base")
    for stage in (
        ReferenceViewsStage(ORBIT, tiny_vae),
        CoarseStage(COARSE, tiny_vae, tiny_base),
        FineStage(FINE, tiny_vae, tiny_base),
    ):
        train(stage, ENGINE, tiny_shards, folder / stage.name)
    return folder


@pytest.fixture
def trainings(sound, tmp_path) -> Path:
    weights_alone = shutil.ignore_patterns("checkpoints", "samples")
    return shutil.copytree(sound, tmp_path / "trainings", ignore=weights_alone)


def refuse(trainings: Path, sentence: str) -> WeightsError:
    folder = trainings.parent / "weights"
    with pytest.raises(WeightsError, match=sentence) as caught:
        assemble(trainings, folder)
    assert not folder.exists()
    assert [path.name for path in trainings.parent.iterdir()] == ["trainings"]
    return caught.value


def change_a_little(path: Path, kind: str) -> None:
    """Another network of the same sizes and autoencoder."""
    file = describe(path, kind)
    state = {name: 1.01 * tensor for name, tensor in file.tensors().items()}
    save_weights(path, file.config, state, file.requires, overwrite=True)


def test_the_folder_has_all_files_of_a_cascade_each_a_copy(sound, tmp_path):
    sizes = assemble(sound, tmp_path / "weights")
    assert set(SOURCES) == set(CASCADE_FILES)
    assert {path.name for path in (tmp_path / "weights").iterdir()} == set(CASCADE_FILES)
    assert {stage for stage, _ in SOURCES.values()} == set(STAGES)
    for name, (stage, file) in SOURCES.items():
        content = (tmp_path / "weights" / name).read_bytes()
        assert content == (sound / stage / "weights" / file).read_bytes()
        assert sizes[name] == len(content)
    assert set(sizes) == set(CASCADE_FILES)


def test_the_networks_of_the_folder_are_those_that_were_trained(sound, tmp_path):
    assemble(sound, tmp_path / "weights")
    for name, stage in (("mini_sv3d", "reference-views"), ("mini", "base")):
        opened = open_trained(name, tmp_path / "weights")
        found = opened.load(torch.device("cpu"), torch.float32)
        with safe_open(sound / stage / "weights" / UNET_NAME, framework="pt") as file:
            expected = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        torch.testing.assert_close(found.unet.state_dict(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_training_names_its_command(trainings, stage):
    shutil.rmtree(trainings / stage)
    assert f"`fourdvd train {stage}`" in str(refuse(trainings, "does not exist").hint)


@pytest.mark.parametrize("stage", STAGES)
def test_an_unfinished_training_names_its_command(trainings, stage):
    shutil.rmtree(trainings / stage / "weights")
    assert f"`fourdvd train {stage}`" in str(refuse(trainings, "does not exist").hint)


def test_networks_in_the_latents_of_another_autoencoder_are_refused(trainings):
    path = trainings / "vae" / "weights" / "vae.safetensors"
    file = describe(path)
    config = replace(file.config, latent_scale=2 * file.config.latent_scale)
    save_weights(path, config, file.tensors(), overwrite=True)
    refuse(trainings, "trained with the vae")


@pytest.mark.parametrize("stage", ["reference-views", "base"])
@pytest.mark.parametrize(
    ("name", "kind"), [(UNET_NAME, None), (IMAGE_ENCODER_NAME, "image-encoder")]
)
def test_each_network_must_be_for_this_autoencoder(trainings, stage, name, kind):
    path = trainings / stage / "weights" / name
    kind = kind or ("sv4d" if stage == "base" else "sv3d")
    file = describe(path, kind)
    save_weights(path, file.config, file.tensors(), {"vae": "0" * 64}, overwrite=True)
    refuse(trainings, f"{name}: .*found 0000")


def test_lora_and_branch_of_another_base_are_refused(trainings):
    change_a_little(trainings / "base" / "weights" / UNET_NAME, "sv4d")
    refuse(trainings, "trained with the base")


def test_another_stages_network_is_no_base(trainings):
    shutil.rmtree(trainings / "base")
    shutil.copytree(trainings / "reference-views", trainings / "base")
    refuse(trainings, "kind sv4d, found sv3d")


def test_a_damaged_file_is_refused(trainings):
    path = trainings / "fine" / "weights" / "4dvd_branch.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    refuse(trainings, "4dvd_branch")


def test_an_existing_folder_is_replaced_only_with_overwrite(sound, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError):
        assemble(sound, folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assemble(sound, folder, overwrite=True)
    assert {path.name for path in folder.iterdir()} == set(CASCADE_FILES)


def test_an_assembled_folder_serves_as_any_of_its_trainings(trainings, tmp_path):
    assemble(trainings, tmp_path / "weights")
    for stage, name in SOURCES.values():
        own = trained_file(trainings / stage, name, stage)
        assert trained_file(tmp_path / "weights", name, stage).read_bytes() == own.read_bytes()
    found = open_base(tmp_path / "weights", tmp_path / "weights")
    assert found.origins == open_base(trainings / "base", trainings / "vae").origins
