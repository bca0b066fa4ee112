"""Where the places are, and that the UNet adds there and nowhere else."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from generation.models.injection import (
    add,
    input_places,
    last_of_levels,
    middle_place,
    skip_places,
    upsampled_places,
)
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import UNetConfig
from tests.generation.models.random_weights import error, frames
from tests.generation.models.small_unets import SMALL, SV4D, sv4d, sv4d_inputs

UNEVEN = SV4DConfig(**{**SMALL, "channel_mult": (1, 3, 2), "num_res_blocks": 2})


@pytest.mark.parametrize("config", [UNEVEN, *SV4D.values()], ids=["uneven", *SV4D])
@pytest.mark.parametrize("size", [(4, 12), (20, 8)])
def test_places_have_the_sizes_of_the_features_that_a_call_makes(
    config: SV4DConfig, size: tuple[int, int]
):
    network = SV4DUNet(config)
    made: dict[str, Tensor] = {}
    blocks = {f"input_{i}": block for i, block in enumerate(network.input_blocks)}
    blocks |= {f"output_{i}": block for i, block in enumerate(network.output_blocks)}
    blocks["middle_0"] = network.middle_block
    for name, block in blocks.items():
        last_layer(block).register_forward_hook(partial(note, made, name))
    h, w = size
    with torch.inference_mode():
        network(**sv4d_inputs(T=1, V=2, h=h, w=w))
    places = [*input_places(config), middle_place(config), *upsampled_places(config)]
    for place in places:
        expected = (place.channels, h >> place.level, w >> place.level)
        assert made[place.name].shape[1:] == expected, place
    assert len(input_places(config)) == len(network.input_blocks)
    grown = [f"output_{i}" for i, b in enumerate(network.output_blocks) if grows(b)]
    assert [place.name for place in upsampled_places(config)] == grown


def note(made: dict[str, Tensor], name: str, layer: nn.Module, inputs: tuple, out: Tensor) -> None:
    """A hook that keeps what a layer made."""
    made[name] = out


def last_layer(block: nn.Module) -> nn.Module:
    return list(block.children())[-1]


def grows(block: nn.Module) -> bool:
    return type(last_layer(block)).__name__ == "Upsample"


def test_the_published_network_has_twelve_skips_and_three_upsampled_features():
    config = UNetConfig()
    assert [place.level for place in input_places(config)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [place.name for place in upsampled_places(config)] == [
        "output_2",
        "output_5",
        "output_8",
    ]
    assert [place.channels for place in upsampled_places(config)] == [1280, 1280, 640]
    ends = last_of_levels(input_places(config))
    assert [place.name for place in ends] == ["input_2", "input_5", "input_8", "input_11"]


def test_adding_nothing_is_the_plain_network_bit_for_bit():
    network, inputs = sv4d("sv4d"), sv4d_inputs()
    plain = network(**inputs)
    assert torch.equal(network(**inputs, inject=lambda x, conditions: {}), plain)
    zeros = {
        place.name: torch.zeros(12, place.channels, 4 >> place.level, 6 >> place.level)
        for place in every_place(network.config)
    }
    assert torch.equal(network(**inputs, inject=lambda x, conditions: zeros), plain)


def every_place(config: UNetConfig):
    return [
        *input_places(config),
        *skip_places(config),
        middle_place(config),
        *upsampled_places(config),
    ]


def test_what_is_added_anywhere_is_seen_in_the_prediction():
    network, inputs = sv4d("sv4d"), sv4d_inputs()
    plain, found = network(**inputs), {}
    for place in every_place(network.config):
        feature = frames(12, place.channels, 4 >> place.level, 6 >> place.level)
        found[place.name] = network(**inputs, inject=lambda x, c, p=place, f=feature: {p.name: f})
        assert error(found[place.name], plain) > 1e-3, place
    for place in input_places(network.config)[:-1]:
        assert not torch.equal(found[place.name], found[f"skip_{place.index}"])


def test_a_skip_is_not_seen_on_the_way_down():
    network, inputs = sv4d("sv4d"), sv4d_inputs()
    feature = frames(12, 64, 4, 6)
    made: dict[str, Tensor] = {}
    for name in ("nothing", "skip_0", "input_0"):
        handle = last_layer(network.middle_block).register_forward_hook(partial(note, made, name))
        network(**inputs, inject=lambda x, conditions, n=name: {n: feature})
        handle.remove()
    assert torch.equal(made["skip_0"], made["nothing"])
    assert not torch.equal(made["input_0"], made["nothing"])


def test_batch_items_share_what_is_made_for_one():
    x, added = frames(6, 64, 2, 4), frames(3, 64, 2, 4, seed=1)
    found = add(x, added)
    assert torch.equal(found, x + torch.cat([added, added]))
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert add(x, None) is x


def test_what_is_added_is_told_the_input_and_the_conditions_and_takes_the_features_type():
    network, inputs = sv4d("sv4d").bfloat16(), sv4d_inputs()
    told: list[Any] = []

    def inject(x: Tensor, conditions: Any) -> dict[str, Tensor]:
        told.append((x, conditions))
        return {"input_1": frames(12, 64, 4, 6)}

    assert network(**inputs, inject=inject).dtype == torch.bfloat16
    [(x, conditions)] = told
    assert torch.equal(x, inputs["x"].bfloat16())
    assert (conditions.times, conditions.views) == (3, 4)
