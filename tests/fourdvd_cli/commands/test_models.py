import json

import pytest
import torch
from huggingface_hub import constants

from generation.models.patch_autoencoder import PatchAutoencoderConfig
from generation.weights.catalogue import bundled, expected_shapes, published
from generation.weights.files import save_weights
from generation.weights.metric_catalogue import metric_models
from tests.generation.lift.tiny_lift import tiny_network, write_lift
from tests.generation.tiny_trained import write_trained_cascade
from tests.generation.weights.published_files import write_hollow

LABELS = [model.label for model in published.values()]


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch) -> None:
    """Hide the weights of this machine, and those of the package."""
    monkeypatch.setattr("generation.weights.store.package_folder", lambda: tmp_path / "package")
    monkeypatch.delenv("FOURDVD_WEIGHTS", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """The weights of SV3D_p and SV4D 2.0, without their numbers."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("sv3d_p", "sv4d2"):
        write_hollow(folder / published[name].file_name, expected_shapes(name))
    return folder


def found_names(fourdvd, *arguments):
    listed = json.loads(fourdvd("models", "list", "--json", *arguments).stdout)["models"]
    assert [model["name"] for model in listed] == [*bundled, *LABELS]
    return [model["name"] for model in listed if model["found"]]


def test_the_list_has_every_model_and_where_its_weights_are(fourdvd, folder, monkeypatch):
    assert found_names(fourdvd) == []
    assert found_names(fourdvd, "--weights", folder) == ["sv3d_p", "sv4d2"]
    monkeypatch.setenv("FOURDVD_WEIGHTS", str(folder))
    assert found_names(fourdvd) == ["sv3d_p", "sv4d2"]


def test_a_model_is_listed_with_its_file_size_license_and_page(fourdvd, folder):
    outcome = fourdvd("models", "list", "--json", "--weights", folder)
    assert outcome.stderr == ""
    assert json.loads(outcome.stdout)["models"][len(bundled) + 1] == {
        "name": "sv3d_p",
        "file": "sv3d_p.safetensors",
        "size_bytes": 9_368_890_196,
        "licence": "Stability AI Community License",
        "licence_url": "https://stability.ai/license",
        "gated": True,
        "page": "https://huggingface.co/stabilityai/sv3d",
        "found": True,
        "path": str(folder / "sv3d_p.safetensors"),
    }


def test_without_json_each_model_is_a_line_and_no_path_is_cut(fourdvd, folder):
    deep = folder / ("deep" * 50)
    deep.mkdir()
    write_hollow(deep / "sv4d.safetensors", {})
    lines = fourdvd("models", "list", "--weights", deep).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["model", *bundled, *LABELS, *metric_models]
    assert [line.endswith(str(deep)) for line in lines] == [False] * 5 + [True] + [False] * 6
    assert "11.9 GB" in lines[5]


@pytest.mark.parametrize("name", ["sv4d2-8views", "sv4d2_8views"])
def test_names_with_hyphens_or_underscores_are_accepted(fourdvd, folder, name):
    (folder / "sv4d2.safetensors").rename(folder / "sv4d2_8views.safetensors")
    outcome = fourdvd("models", "verify", name, "--weights", folder)
    assert outcome.exit_code == 0
    assert outcome.stdout.startswith("✓ sv4d2-8views: ")


def test_without_a_name_all_found_weights_are_verified(fourdvd, folder):
    outcome = fourdvd("models", "verify", "--weights", folder, "--json")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    first, second = json.loads(outcome.stdout)["models"]
    assert (first["name"], second["name"]) == ("sv3d_p", "sv4d2")
    assert second == {
        "name": "sv4d2",
        "ok": True,
        "path": str(folder / "sv4d2.safetensors"),
        "size_bytes": (folder / "sv4d2.safetensors").stat().st_size,
        "tensors": 3204,
        "dtypes": ["F32"],
        "missing_unread": 0,
        "extra_unread": 0,
    }


def test_one_invalid_file_is_reported_and_the_others_are_verified(fourdvd, folder):
    (folder / "sv4d2.safetensors").write_bytes(b"<html>log in</html>")
    outcome = fourdvd("models", "verify", "--weights", folder)
    assert outcome.exit_code == 4
    good, bad = outcome.stdout.splitlines()
    assert good.startswith("✓ sv3d_p: ")
    assert bad.startswith("– sv4d2: ")
    assert "web page" in bad
    assert "1 of 2" in outcome.stderr

    outcome = fourdvd("models", "verify", "--weights", folder, "--json")
    assert outcome.exit_code == 4
    bad = json.loads(outcome.stdout)["models"][1]
    assert (bad["ok"], bad["path"]) == (False, str(folder / "sv4d2.safetensors"))
    assert "web page" in bad["error"]


def test_verifying_missing_weights_by_name_exits_with_4(fourdvd, folder):
    outcome = fourdvd("models", "verify", "sv4d", "--weights", folder)
    assert (outcome.exit_code, outcome.stdout) == (4, "")
    assert "sv4d.safetensors" in outcome.stderr
    assert str(folder) in outcome.stderr


def test_verifying_without_any_weights_exits_with_4(fourdvd):
    outcome = fourdvd("models", "verify")
    assert (outcome.exit_code, outcome.stdout) == (4, "")
    assert "weights" in outcome.stderr


def test_bundled_weights_are_listed_and_verified(fourdvd, tmp_path):
    for place in ("lift", "mini"):
        (tmp_path / "package" / place).mkdir(parents=True)
    write_lift(tmp_path / "package" / "lift")
    write_trained_cascade(tmp_path / "package" / "mini")
    first = json.loads(fourdvd("models", "list", "--json").stdout)["models"][0]
    file = tmp_path / "package" / "lift" / "lift.safetensors"
    assert first == {
        "name": "lift",
        "file": "lift.safetensors",
        "size_bytes": file.stat().st_size,
        "licence": "Apache-2.0",
        "licence_url": None,
        "gated": False,
        "page": None,
        "found": True,
        "path": str(file),
    }
    outcome = fourdvd("models", "verify")
    assert outcome.exit_code == 0, outcome.stderr
    assert [line.split(":")[0] for line in outcome.stdout.splitlines()] == ["✓ lift", "✓ mini"]
    assert fourdvd("models", "verify", "mini", "--json").exit_code == 0
    (tmp_path / "empty").mkdir()
    assert fourdvd("models", "verify", "--weights", tmp_path / "empty").stdout == outcome.stdout
    assert fourdvd("models", "verify", "mini", "--weights", tmp_path / "empty").exit_code == 4


def test_bundled_weights_that_do_not_fit_are_reported(fourdvd, tmp_path):
    network = tiny_network()
    state = network.state_dict() | {"stem.weight": torch.zeros(1, 2)}
    save_weights(tmp_path / "lift.safetensors", network.config, state)
    outcome = fourdvd("models", "verify", "lift", "--weights", tmp_path)
    assert outcome.exit_code == 4
    assert "stem.weight" in outcome.stderr
    cascade = write_trained_cascade(tmp_path / "cascade")
    save_weights(tmp_path / "vae.safetensors", PatchAutoencoderConfig(), {})
    (tmp_path / "vae.safetensors").replace(cascade / "vae.safetensors")
    outcome = fourdvd("models", "verify", "mini", "--weights", cascade, "--json")
    assert outcome.exit_code == 4
    assert "vae.safetensors" in json.loads(outcome.stdout)["models"][0]["error"]


@pytest.mark.parametrize("name", ["lift", "mini"])
def test_missing_bundled_weights_exit_with_4(fourdvd, name):
    outcome = fourdvd("models", "verify", name)
    assert outcome.exit_code == 4
    assert "fourdvd train" in outcome.stderr


def test_a_file_of_any_name_can_be_verified(fourdvd, folder):
    path = (folder / "sv4d2.safetensors").rename(folder / "download(1)")
    assert fourdvd("models", "verify", "sv4d2", "--file", path).exit_code == 0
    outcome = fourdvd("models", "verify", "sv3d_u", "--file", path)
    assert outcome.exit_code == 4
    assert all(fact in outcome.stderr for fact in (str(path), "sv4d2", "sv3d_u"))
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("fault", ["cut", "empty", "folder", "missing", "lora"])
def test_unusable_weights_exit_with_4(fourdvd, tmp_path, fault):
    path = tmp_path / "sv4d2.safetensors"
    if fault == "folder":
        path.mkdir()
    elif fault != "missing":
        shapes = {"lora.up": (1,)} if fault == "lora" else expected_shapes("sv4d2")
        write_hollow(path, shapes)
    if fault in ("cut", "empty"):
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 1 if fault == "cut" else 0)
    outcome = fourdvd("models", "verify", "sv4d2", "--file", path)
    assert (outcome.exit_code, outcome.stdout) == (4, "")
    assert outcome.stderr.startswith(f"error: {path}: ")


@pytest.mark.parametrize("command", [["list"], ["verify"], ["verify", "sv4d2"]])
def test_a_folder_that_does_not_exist_exits_with_4(fourdvd, tmp_path, command):
    outcome = fourdvd("models", *command, "--weights", tmp_path / "none")
    assert (outcome.exit_code, outcome.stdout) == (4, "")
    assert "none" in outcome.stderr


def test_weights_are_not_fetched_before_the_license_is_accepted(fourdvd, tmp_path):
    outcome = fourdvd("models", "fetch", "sv3d_u", "--weights", tmp_path / "weights")
    assert (outcome.exit_code, outcome.stdout) == (4, "")
    assert "https://stability.ai/license" in outcome.stderr
    assert not (tmp_path / "weights").exists()


def test_existing_weights_are_not_fetched_again(fourdvd, folder):
    outcome = fourdvd("models", "fetch", "sv4d2", "--weights", folder)
    assert outcome[:2] == (0, f"{folder / 'sv4d2.safetensors'}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["fetch"],
        ["fetch", "sv5d"],
        ["verify", "sv5d"],
        ["verify", "--file", "x"],
        ["verify", "sv4d", "sv4d2", "--file", "x"],
        ["remove", "sv4d"],
    ],
)
def test_wrong_usage_exits_with_2(fourdvd, arguments):
    outcome = fourdvd("models", *arguments)
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert "Usage" in outcome.stderr


def test_doctor_lists_the_found_weights(fourdvd, folder, monkeypatch):
    missing = json.loads(fourdvd("doctor", "--json").stdout)["weights"]
    assert not missing["ok"]
    assert missing["found"] == f"not found: {', '.join(LABELS)}"
    assert "fourdvd models fetch sv4d2 --accept-license" in missing["advice"]

    monkeypatch.setenv("FOURDVD_WEIGHTS", str(folder))
    found = json.loads(fourdvd("doctor", "--json").stdout)["weights"]
    assert found["ok"]
    assert found["found"] == (
        f"sv3d_p in {folder}; sv4d2 in {folder}; not found: sv3d_u, sv4d, sv4d2-8views"
    )


def test_weights_of_metrics_are_listed_with_source_license_and_digest(fourdvd, tmp_path):
    listed = json.loads(fourdvd("models", "list", "--json").stdout)["metrics"]
    assert [each["name"] for each in listed] == list(metric_models)
    for file in (file for each in listed for file in each["files"]):
        assert file["url"] and file["licence"] and (file["sha256"] or file["git_blob"])


def test_other_weights_of_a_metric_exit_with_4(fourdvd, tmp_path):
    (tmp_path / "i3d_pretrained_400.pt").write_bytes(b"another file")
    outcome = fourdvd("models", "verify", "fvd", "--weights", tmp_path)
    assert outcome.exit_code == 4 and "not that of the published" in outcome.stderr
    assert "fourdvd models fetch fvd" in outcome.stderr
