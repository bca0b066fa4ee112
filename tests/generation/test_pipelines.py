"""The table of all models, and which of them "auto" is."""

import shutil
from pathlib import Path

import pytest

from generation.pipelines import choose_model, pipelines, weights_identity
from generation.settings import MODELS, GenerateSettings
from generation.weights import store
from generation.weights.catalogue import CASCADE_KINDS, VAE_FILE
from tests.generation.lift.tiny_lift import write_lift
from tests.generation.tiny_trained import write_autoencoder, write_trained_cascade

FILES = {
    "sv4d2": ["sv4d2.safetensors"],
    "4dvd": [
        "sv3d_p.safetensors", "sv4d.safetensors", "4dvd_lora.safetensors",
        "4dvd_branch.safetensors",
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_other_weights(monkeypatch):
    monkeypatch.delenv("FOURDVD_WEIGHTS", raising=False)
    monkeypatch.setattr(store, "find_in_cache", lambda model: None)


def folder_with(folder: Path, *models: str) -> Path:
    for model in models:
        for name in FILES[model]:
            (folder / name).touch()
    return folder


def test_every_model_has_a_pipeline():
    assert set(pipelines) == set(MODELS)


@pytest.mark.parametrize(
    ("models", "chosen"),
    [([], "lift"), (["sv4d2"], "sv4d2"), (["4dvd"], "4dvd"), (["4dvd", "sv4d2"], "4dvd")],
)
def test_on_cuda_the_best_model_with_all_weights_is_chosen(tmp_path, models, chosen):
    found = choose_model("cuda", folder_with(tmp_path, *models))
    assert found.name == chosen
    assert "weights" in found.reason


def test_a_cascade_that_lacks_a_file_is_not_chosen(tmp_path):
    folder_with(tmp_path, "4dvd", "sv4d2")
    (tmp_path / "4dvd_branch.safetensors").unlink()
    assert choose_model("cuda", tmp_path).name == "sv4d2"


def test_on_a_cpu_lift_is_chosen_whatever_is_there(tmp_path):
    found = choose_model("cpu", folder_with(tmp_path, "4dvd", "sv4d2"))
    assert found.name == "lift"
    assert "no CUDA device" in found.reason


def test_the_identity_of_weights_tells_every_file_but_not_its_place(tmp_path):
    folder, copy = write_trained_cascade(tmp_path / "cascade"), tmp_path / "copy"
    shutil.copytree(folder, copy)
    settings = GenerateSettings("mini")
    found = weights_identity(settings, folder)
    assert set(found) == {"mini_sv3d", "mini", *CASCADE_KINDS}
    assert weights_identity(settings, copy) == found
    write_autoencoder(copy / VAE_FILE, seed=9)
    assert weights_identity(settings, copy) != found


def test_the_default_pipeline_is_the_chosen_one(tmp_path):
    from generation import load_pipeline

    pipeline = load_pipeline(weights=write_lift(tmp_path), device="cpu")
    assert pipeline.settings.model == "lift"
