"""Files of the cascade come back as they were, and no wrong one is taken."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from generation.models.lora import (
    LoraSettings,
    add_lora,
    has_lora,
    lora_parameters,
    lora_settings,
    lora_state,
)
from generation.models.structure_branch import BRANCHES, build_branch
from generation.models.sv4d import SV4DUNet
from generation.weights.cascade_weights import (
    BRANCH,
    LORA,
    load_branch,
    load_lora,
    save_branch,
    save_lora,
)
from recon.errors import OutputExistsError, WeightsError
from tests.generation.models.random_weights import numbers, with_random_weights
from tests.generation.models.small_unets import SV4D, sv4d, sv4d_inputs

CONFIG = SV4D["sv4d"]
BASE, OTHER = 64 * "a", 64 * "b"


@pytest.fixture
def lora(tmp_path):
    path = tmp_path / "lora.safetensors"
    save_lora(path, with_lora(), BASE)
    return path


@pytest.fixture
def branch(tmp_path):
    path = tmp_path / "branch.safetensors"
    save_branch(path, build_branch("layerwise", CONFIG), BASE)
    return path


def with_lora() -> SV4DUNet:
    network = sv4d("sv4d")
    add_lora(network, 3, 6.5)
    for index, parameter in enumerate(lora_parameters(network)):
        parameter.data = 0.2 * numbers(*parameter.shape, seed=index)
    return network


def rewrite(path, **notes: str | None) -> None:
    """The same tensors with other metadata; None leaves an entry out."""
    with safe_open(path, framework="pt") as file:
        old = file.metadata() or {}
    changed = {key: text for key, text in {**old, **notes}.items() if text is not None}
    save_file({k: v.clone() for k, v in load_file(path).items()}, path, changed)


def test_a_lora_comes_back_with_its_rank_and_its_effect(lora):
    network = sv4d("sv4d")
    load_lora(lora, network, BASE)
    assert lora_settings(network) == LoraSettings(3, 6.5)
    inputs = sv4d_inputs()
    assert torch.equal(network(**inputs), with_lora()(**inputs))


@pytest.mark.parametrize("roles", ["reference_query", "feature_query"])
@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_comes_back_with_every_number_and_frozen(tmp_path, name: str, roles: str):
    path = tmp_path / "new" / "branch.safetensors"
    saved = with_random_weights(build_branch(name, CONFIG, roles))
    save_branch(path, saved, BASE)
    found = load_branch(path, CONFIG, BASE, name, roles)
    assert (found.name, found.roles) == (name, roles)
    state = saved.state_dict()
    assert found.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in found.state_dict().items())
    assert not any(p.requires_grad for p in found.parameters())
    assert load_branch(path, CONFIG, BASE, name, roles, torch.bfloat16).dtype == torch.bfloat16


def test_the_metadata_says_what_the_file_is(lora, branch):
    for path, kind, settings in (
        (lora, LORA, {"rank": 3, "alpha": 6.5}),
        (branch, BRANCH, {"name": "layerwise", "roles": "reference_query"}),
    ):
        with safe_open(path, framework="pt") as file:
            notes = file.metadata()
        assert notes.pop("hyper_parameters") == json.dumps(settings)
        assert notes == {"format": kind, "version": "1", "base_sha256": BASE}


def test_a_file_is_replaced_only_when_that_is_asked_for(lora):
    with pytest.raises(OutputExistsError):
        save_lora(lora, with_lora(), BASE)
    save_lora(lora, with_lora(), OTHER, overwrite=True)
    load_lora(lora, sv4d("sv4d"), OTHER)


def test_weights_for_another_base_are_refused_with_both_hashes(lora, branch):
    for load in (
        lambda: load_lora(lora, sv4d("sv4d"), OTHER),
        lambda: load_branch(branch, CONFIG, OTHER),
    ):
        with pytest.raises(WeightsError, match=f"expected {OTHER}.*found {BASE}") as failure:
            load()
        assert "trained on" in (failure.value.hint or "")


def test_a_branch_of_another_name_or_other_roles_is_refused(branch):
    with pytest.raises(WeightsError, match=r"expected .*'controlnet', found 'layerwise'"):
        load_branch(branch, CONFIG, BASE, "controlnet")
    with pytest.raises(WeightsError, match=r"expected .*'feature_query', found 'reference_query'"):
        load_branch(branch, CONFIG, BASE, roles="feature_query")


def test_one_kind_of_file_does_not_pass_for_the_other(lora, branch):
    with pytest.raises(WeightsError, match=f"expected {BRANCH} as its format, found {LORA}"):
        load_branch(lora, CONFIG, BASE)
    with pytest.raises(WeightsError, match=f"expected {LORA} as its format, found {BRANCH}"):
        load_lora(branch, sv4d("sv4d"), BASE)


def test_other_versions_and_files_without_metadata_are_refused(lora, branch):
    rewrite(lora, version="2")
    with pytest.raises(WeightsError, match="expected 1 as its version, found 2"):
        load_lora(lora, sv4d("sv4d"), BASE)
    save_file({"x": torch.zeros(1)}, branch)
    with pytest.raises(WeightsError, match=f"expected {BRANCH} as its format, found nothing"):
        load_branch(branch, CONFIG, BASE)


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "{}", '{"rank": 0, "alpha": 1}'])
def test_damaged_hyper_parameters_are_refused(lora, text: str | None):
    rewrite(lora, hyper_parameters=text)
    network = sv4d("sv4d")
    with pytest.raises(WeightsError, match="expected"):
        load_lora(lora, network, BASE)


def test_weights_of_a_network_of_another_size_or_rank_are_refused(lora, branch):
    with pytest.raises(WeightsError, match=f"{branch}: .*of another shape"):
        load_branch(branch, replace(CONFIG, model_channels=32), BASE)
    rewrite(lora, hyper_parameters=json.dumps({"rank": 4, "alpha": 6.5}))
    network, inputs = sv4d("sv4d"), sv4d_inputs()
    with pytest.raises(WeightsError, match=rf"{lora}: .*rank 4.*expected 4×64, found 3×64"):
        load_lora(lora, network, BASE)
    assert not has_lora(network)
    with torch.inference_mode():  # with gradients, what needs some is summed in another order
        assert torch.equal(network(**inputs), sv4d("sv4d")(**inputs))


def test_files_that_are_cut_off_missing_or_of_integers_are_refused(tmp_path, lora):
    lora.write_bytes(lora.read_bytes()[:-8])
    with pytest.raises(WeightsError, match="cut off"):
        load_lora(lora, sv4d("sv4d"), BASE)
    with pytest.raises(WeightsError, match="no such file"):
        load_branch(tmp_path / "none.safetensors", CONFIG, BASE)
    network = with_lora()
    state = {key: tensor.long() for key, tensor in lora_state(network).items()}
    save_file(state, lora, {"format": LORA})
    with pytest.raises(WeightsError, match="expected floating-point tensors"):
        load_lora(lora, network, BASE)
