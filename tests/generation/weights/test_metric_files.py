"""Weights of metrics are found, checked against the published content, and downloaded."""

import hashlib
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from generation.weights.metric_catalogue import metric_models
from generation.weights.metric_files import (
    check_metric_files,
    fetch_metric_files,
    find_metric_files,
    git_blob,
    list_metric_files,
    torch_cache,
    verify_metrics,
)
from recon.errors import WeightsError
from tests.generation.weights.fake_hub import FakeHub

CONTENT = bytes(range(256)) * 8192  # two megabytes


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("FOURDVD_WEIGHTS", raising=False)
    return tmp_path


def model_of(url: str, content: bytes = CONTENT):
    """The metric fvd with another file."""
    file = replace(
        metric_models["fvd"].files[0],
        url=url,
        git_blob="",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
    )
    return replace(metric_models["fvd"], files=(file,))


def test_every_file_has_a_source_a_license_and_a_digest():
    for model in metric_models.values():
        for file in model.files:
            assert file.url.startswith("https://") and file.license
            assert len(file.sha256) == 64 or len(file.git_blob) == 40


@pytest.mark.parametrize("name", metric_models)
def test_missing_weights_name_the_file_the_folder_and_the_command(name, home):
    with pytest.raises(WeightsError, match=metric_models[name].files[0].name) as caught:
        find_metric_files(metric_models[name], home)
    assert str(home) in str(caught.value) and str(torch_cache()) in str(caught.value)
    assert f"fourdvd models fetch {name}" in (caught.value.hint or "")


def test_another_content_is_refused_and_a_safetensors_file_is_taken_as_it_is(home):
    model = model_of("https://example.org")
    path = home / "i3d_pretrained_400.pt"
    path.write_bytes(CONTENT)
    (found,) = check_metric_files(model, home)
    assert found.published and found.sha256 == model.files[0].sha256
    path.write_bytes(CONTENT[1:])
    with pytest.raises(WeightsError, match="content") as caught:
        check_metric_files(model, home)
    assert "fourdvd models fetch fvd" in (caught.value.hint or "")
    path.unlink()
    save_file({"a": torch.zeros(1)}, home / "i3d_pretrained_400.safetensors")
    assert not check_metric_files(model, home)[0].published


def test_the_identifier_of_git_is_that_of_git(home):
    path = home / "file"
    path.write_bytes(b"what is up, doc?")
    assert git_blob(path) == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"  # Pro Git, chapter 10.2


def test_only_what_is_found_is_listed_and_verified(home):
    assert not any(list_metric_files(home).values()) and verify_metrics((), home) == []
    (home / "i3d_pretrained_400.pt").write_bytes(b"something else")
    (check,) = verify_metrics((), home)
    assert check.model.name == "fvd" and check.error is not None
    (check,) = verify_metrics([metric_models["lpips"]], file=home / "i3d_pretrained_400.pt")
    assert "2" in str(check.error)


@pytest.fixture
def hub():
    hub = FakeHub(CONTENT)
    yield hub
    hub.close()


def test_a_download_is_resumed_checked_and_kept(hub, home):
    model = model_of(f"{hub.delivery_url}/i3d")
    hub.breaks = [1_500_000, *[0] * 20]
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        fetch_metric_files(model, home / "weights")
    hub.breaks = []
    steps = []
    (path,) = fetch_metric_files(model, home / "weights", steps.append)
    assert path.read_bytes() == CONTENT and steps[-1].step == 2
    asked = len(hub.delivered)
    assert fetch_metric_files(model, home / "weights") == [path] and len(hub.delivered) == asked
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_download_of_another_content_is_thrown_away(hub, home):
    model = model_of(f"{hub.delivery_url}/i3d", CONTENT[::-1])
    with pytest.raises(WeightsError, match="not the published"):
        fetch_metric_files(model, home / "weights")
    assert not any((home / "weights").iterdir())


def test_the_default_folder_is_that_of_torch(hub, home):
    (path,) = fetch_metric_files(model_of(f"{hub.delivery_url}/i3d"))
    assert path.parent == torch_cache() == home / "torch" / "hub" / "checkpoints"
