"""Metrics are loaded with the weights that are there, which reports name; none is substituted."""

import pytest
from safetensors.torch import save_file

from generation.metrics import load_metrics
from recon.errors import InputError, WeightsError
from recon.evaluation import evaluate_grid
from recon.metrics.catalog import METRICS
from tests.conftest import make_tiny_grid
from tests.generation.metrics import random_networks as shared


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.delenv("FOURDVD_WEIGHTS", raising=False)


@pytest.fixture
def weights(tmp_path):
    features, heads = shared.lpips_tensors("alex")
    save_file(features, tmp_path / "alexnet-owt-7be5be79.safetensors")
    save_file(heads, tmp_path / "lpips_v0.1_alex.safetensors")
    return tmp_path


@pytest.mark.parametrize("name", [name for name, info in METRICS.items() if info.weights])
def test_missing_weights_are_an_error_with_the_command(name, tmp_path):
    with pytest.raises(WeightsError) as caught:
        load_metrics(["psnr", name], tmp_path)
    assert "fourdvd models fetch" in (caught.value.hint or "")


def test_unknown_formulas_are_refused():
    with pytest.raises(InputError, match="pair or set"):
        load_metrics(["psnr"], fvd="mean")


def test_lpips_of_a_grid_stands_beside_psnr_with_its_weights(weights):
    grid = make_tiny_grid(1, 2)
    found = evaluate_grid(grid, grid, metrics=load_metrics(["psnr", "lpips-alex"], weights))
    assert found.mean("lpips-alex") == 0 and found.psnr == 100
    settings = found.settings["lpips-alex"]
    assert settings["side_px"] == 512 and settings["published_weights"] is False
    assert all(len(sha256) == 64 for sha256 in settings["weights"].values())
