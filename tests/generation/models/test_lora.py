"""The LoRA is on the attention only, has no effect untrained, and can be merged."""

import copy

import pytest
import torch
from torch import nn

from generation.models.lora import (
    LoraSettings,
    add_lora,
    has_lora,
    load_lora_state,
    lora_parameters,
    lora_settings,
    lora_state,
    merge_lora,
)
from generation.models.sv4d import SV4DUNet
from recon.errors import WeightsError
from tests.generation.models.random_weights import error, gradients, numbers
from tests.generation.models.small_unets import SV4D, sv4d, sv4d_inputs

RANK, ALPHA = 3, 12.0
WRAPPED = (
    "attn1.to_q",
    "attn1.to_k",
    "attn1.to_v",
    "attn1.to_out.0",
    "attn2.to_v",
    "attn2.to_out.0",
)


@pytest.fixture(params=SV4D)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def with_lora(name: str = "sv4d", rank: int = RANK) -> SV4DUNet:
    network = sv4d(name)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        add_lora(network, rank, ALPHA)
    return network


def with_trained_lora(name: str = "sv4d") -> SV4DUNet:
    network = with_lora(name)
    for index, parameter in enumerate(lora_parameters(network)):
        parameter.data = 0.2 * numbers(*parameter.shape, seed=index)
    return network


def test_an_untrained_lora_changes_nothing_bit_for_bit(name: str):
    inputs = sv4d_inputs()
    # Attention takes another kernel where a gradient is wanted: both networks want all of them.
    found = with_lora(name).requires_grad_(True)(**inputs)
    assert torch.equal(found, sv4d(name)(**inputs))


def test_a_lora_is_on_the_attention_of_all_three_kinds_of_block_only(name: str):
    found = {key.rsplit(".lora_", 1)[0] for key in lora_state(with_lora(name))}
    kinds = ("transformer_blocks", "time_mix_blocks", "motion_blocks")
    transformers = [
        key for key, module in sv4d(name).named_modules() if hasattr(module, "transformer_blocks")
    ]
    assert found == {
        f"{transformer}.{kind}.0.{layer}"
        for transformer in transformers
        for kind in kinds
        for layer in WRAPPED
    }
    assert len(lora_parameters(with_lora(name))) == 2 * len(found)


def test_every_part_of_a_trained_lora_has_an_effect(name: str):
    network, inputs = with_trained_lora(name), sv4d_inputs()
    found = gradients(network(**inputs).square().mean(), only_trainable(network))
    sizes = {key: 0 if g is None else float(g.abs().max()) for key, g in found.items()}
    assert len(sizes) == len(lora_state(network))
    assert {key: size for key, size in sizes.items() if not size > 1e-10} == {}


def only_trainable(network: nn.Module) -> nn.Module:
    """Return the parameters that require gradients, by name."""
    holder = nn.Module()
    for key, parameter in network.named_parameters():
        if parameter.requires_grad:
            holder.register_parameter(key.replace(".", "/"), parameter)
    return holder


def test_the_coarse_stage_trains_the_lora_and_leaves_the_base_as_it_was(name: str):
    network, inputs = with_lora(name), sv4d_inputs()
    base = sv4d(name).state_dict()
    assert {id(p) for p in network.parameters() if p.requires_grad} == {
        id(p) for p in lora_parameters(network)
    }
    optimizer = torch.optim.Adam((p for p in network.parameters() if p.requires_grad), lr=1e-2)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = (network(**inputs) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    for key, tensor in network.state_dict().items():
        if ".lora_" not in key:
            assert torch.equal(tensor, base[key.replace(".base_layer", "")]), key


def test_merging_gives_a_plain_network_with_the_same_result():
    network, inputs = with_trained_lora(), sv4d_inputs()
    state, plain = lora_state(network), sv4d("sv4d")
    for key, weight in plain.state_dict().items():
        layer = key.removesuffix(".weight")
        if f"{layer}.lora_A.weight" in state:
            product = state[f"{layer}.lora_B.weight"] @ state[f"{layer}.lora_A.weight"]
            weight.add_(ALPHA / RANK * product)
    expected = plain(**inputs)
    assert error(network(**inputs), expected) < 1e-4
    merge_lora(network)
    assert not has_lora(network)
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert error(network(**inputs), expected) < 1e-4
    add_lora(network, 1, 1.0)
    assert lora_settings(network) == LoraSettings(1, 1.0)


def test_limited_memory_gives_the_same_prediction():
    network, inputs = with_trained_lora(), sv4d_inputs()
    expected = network(**inputs)
    network.limit_memory(20)
    assert error(network(**inputs), expected) < 1e-4


def test_factors_stay_float32_on_a_network_of_half_precision():
    network, inputs = sv4d("sv4d").bfloat16(), sv4d_inputs()
    plain = network(**inputs)
    add_lora(network, RANK, ALPHA)
    assert {parameter.dtype for parameter in lora_parameters(network)} == {torch.float32}
    found = network(**inputs)
    assert found.dtype == network.dtype == torch.bfloat16
    assert torch.equal(found, plain)


def test_a_state_carries_a_lora_to_another_network():
    trained, other, inputs = with_trained_lora(), with_lora(), sv4d_inputs()
    assert not torch.equal(other(**inputs), trained(**inputs))
    load_lora_state(other, copy.deepcopy(lora_state(trained)))
    assert torch.equal(other(**inputs), trained(**inputs))


def test_a_state_that_does_not_fit_is_refused_and_nothing_is_copied():
    network = with_lora()
    before = copy.deepcopy(lora_state(network))
    key = next(iter(before))
    wrong = {
        "missing": {k: v for k, v in before.items() if k != key},
        "extra": {**before, "elsewhere.lora_A.weight": before[key]},
        "another shape": {**before, key: before[key].T.contiguous()},
        "I64|int64": {**before, key: before[key].long()},
        "rank 3": lora_state(with_lora(rank=5)),
    }
    for reason, tensors in wrong.items():
        with pytest.raises(WeightsError, match=reason):
            load_lora_state(network, tensors)
        assert all(torch.equal(lora_state(network)[k], v) for k, v in before.items())
