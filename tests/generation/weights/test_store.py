"""Files are found by the names of their models, in the documented order of folders."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants

from generation.weights import store
from generation.weights.catalogue import (
    BRANCH_FILE,
    CASCADE_FILES,
    LIFT_FILE,
    LORA_FILE,
    VAE_FILE,
    bundled,
    published,
    trained,
)
from generation.weights.store import (
    OWN_FILES,
    bundled_folder,
    find_cascade_file,
    find_lift,
    find_model,
    find_published,
    list_bundled,
    list_published,
    search_folders,
    trained_folder,
)
from recon.errors import WeightsError

SV4D2 = published["sv4d2"]


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch) -> dict[str, Path]:
    """Empty folders that are searched for weights, independent of the user's environment."""
    folders = {name: tmp_path / name for name in ("named", "variable", "cache")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setenv("FOURDVD_WEIGHTS", str(folders["variable"]))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folders["cache"]))
    return folders


@pytest.fixture
def cascade(tmp_path) -> Path:
    """A folder with empty files of a trained cascade."""
    folder = tmp_path / "cascade"
    folder.mkdir()
    for name in CASCADE_FILES:
        (folder / name).touch()
    return folder


def put(places, place: str) -> Path:
    """Create an empty file in a folder that is searched for the weights of SV4D 2.0."""
    folder = places[place]
    if place == "cache":
        repository = folder / "models--stabilityai--sv4d2.0"
        folder = repository / "snapshots" / "c0ffee"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("c0ffee")
        folder.mkdir(parents=True)
    path = folder / SV4D2.file_name
    path.touch()
    return path


def test_the_named_folder_comes_before_the_variable_and_that_before_the_cache(places):
    cached = put(places, "cache")
    assert find_published(SV4D2, places["named"]) == find_model("sv4d2") == cached
    variable = put(places, "variable")
    assert find_published(SV4D2, places["named"]) == find_model("sv4d2") == variable
    named = put(places, "named")
    assert find_model("sv4d2", places["named"]) == named
    assert find_published(SV4D2) == variable


def test_other_models_and_other_repositories_are_not_taken(places):
    for place in places:
        put(places, place)
    with pytest.raises(WeightsError):
        find_published(published["sv4d2_8views"], places["named"])
    listed = list_published(places["named"])
    assert [model.name for model, path in listed.items() if path] == ["sv4d2"]


def test_a_variable_that_names_no_folder_is_skipped(places, monkeypatch):
    cached = put(places, "cache")
    for value in (str(places["named"] / "none"), ""):
        monkeypatch.setenv("FOURDVD_WEIGHTS", value)
        assert find_published(SV4D2) == cached


def test_missing_weights_are_reported_with_all_places_and_the_command(places):
    with pytest.raises(WeightsError) as failure:
        find_published(SV4D2, places["named"])
    for folder in places.values():
        assert str(folder) in str(failure.value)
    assert "`fourdvd models fetch sv4d2 --accept-license`" in (failure.value.hint or "")
    assert "12.0 GB" in (failure.value.hint or "")
    assert "--weights DIR" in (failure.value.hint or "")


def test_a_named_folder_must_be_one_even_if_other_places_have_the_weights(places):
    path = put(places, "variable")
    for find in (lambda folder: find_published(SV4D2, folder), trained_folder, list_published):
        with pytest.raises(WeightsError, match=str(places["named"] / "none")):
            find(places["named"] / "none")
    with pytest.raises(WeightsError, match=f"{path} is a file.*{path.parent}"):
        search_folders(path)


def test_a_folder_without_permission_is_reported(places, monkeypatch):
    def refuse(self, **named):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", refuse)  # modes of files do not stop the user root
    with pytest.raises(WeightsError, match=f"{places['named']}: no permission"):
        find_published(SV4D2, places["named"])


def test_finding_fetching_and_verifying_import_no_torch():
    code = (
        "import sys\n"
        "from generation.weights import hub, store, verify\n"
        "store.list_published()\n"
        "print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


@pytest.mark.parametrize("file", OWN_FILES)
def test_a_named_folder_is_a_trained_cascade_if_it_holds_one_of_its_files(tmp_path, file):
    (tmp_path / file).touch()
    assert trained_folder(tmp_path) == trained_folder(str(tmp_path)) == tmp_path


def test_the_bundled_cascade_is_used_if_no_folder_is_named(tmp_path):
    assert trained_folder() == bundled_folder()
    assert find_model("mini") == bundled_folder() / "sv4d.safetensors"
    assert find_model("mini").is_file()
    for name in ("sv4d2.safetensors", "sv4d.safetensors", LORA_FILE):
        (tmp_path / name).touch()
    for find in (trained_folder, partial(find_cascade_file, LORA_FILE, "mini")):
        with pytest.raises(WeightsError, match=f"mini.*{VAE_FILE}.* in {tmp_path}") as caught:
            find(folder=tmp_path)
        assert "--weights" in (caught.value.hint or "")


def test_bundled_models_are_listed_beside_a_folder_that_has_none(cascade, places):
    listed = list_bundled(places["named"])
    assert listed == list_bundled()
    assert {path.parent for path in listed[bundled["mini"]]} == {bundled_folder()}
    assert {path.parent for path in list_bundled(cascade)[bundled["mini"]]} == {cascade}
    assert list_bundled(cascade)[bundled["lift"]] == listed[bundled["lift"]]


def test_models_of_a_trained_cascade_are_in_its_folder(cascade):
    for name, model in trained.items():
        assert find_model(name, cascade) == cascade / model.unet_file


@pytest.mark.parametrize(
    "file", [trained["mini"].unet_file, trained["mini"].image_encoder_file, VAE_FILE]
)
def test_a_missing_file_of_a_cascade_is_named_with_the_command_that_makes_it(cascade, file):
    (cascade / file).unlink()
    with pytest.raises(WeightsError, match=f"{file} in {cascade}") as caught:
        find_model("mini", cascade)
    assert "`fourdvd train assemble`" in (caught.value.hint or "")


def test_lora_and_branch_of_a_trained_cascade_are_beside_its_networks(cascade, places):
    """The folder in the environment variable is searched for published networks only."""
    for name in (LORA_FILE, BRANCH_FILE):
        (places["variable"] / name).touch()
        assert find_cascade_file(name, "mini", cascade) == cascade / name
    (cascade / BRANCH_FILE).unlink()
    assert find_cascade_file(BRANCH_FILE, "sv4d", cascade) == places["variable"] / BRANCH_FILE
    with pytest.raises(WeightsError, match=f"{BRANCH_FILE} in {cascade}") as caught:
        find_cascade_file(BRANCH_FILE, "mini", cascade)
    assert "`fourdvd train assemble`" in (caught.value.hint or "")


def test_the_network_of_lift_is_the_bundled_one_or_in_the_named_folder(tmp_path, monkeypatch):
    named, package = tmp_path / "named", tmp_path / "package"
    for folder in (named, package / "lift"):
        folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(store.resources, "files", lambda _: package)
    with pytest.raises(WeightsError, match=f"no {package / 'lift' / LIFT_FILE}") as caught:
        find_lift()
    assert "`fourdvd train lift`" in (caught.value.hint or "")
    (package / "lift" / LIFT_FILE).touch()
    assert find_lift() == package / "lift" / LIFT_FILE
    with pytest.raises(WeightsError, match=f"no {LIFT_FILE} in {named}") as caught:
        find_lift(named)
    assert "--weights" in (caught.value.hint or "")
    (named / LIFT_FILE).touch()
    assert find_lift(named) == named / LIFT_FILE
    with pytest.raises(WeightsError, match="none"):
        find_lift(named / "none")
