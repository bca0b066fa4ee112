"""The networks of a published file, and how the pipeline calls them."""

from math import prod

import pytest
import torch
from torch import Tensor

from generation.conditioning import Conditioning
from generation.models.unet import UNet
from generation.networks import predictor
from generation.weights.catalogue import Shape, expected_shapes, published
from generation.weights.model_weights import find_architecture
from tests.generation.models.random_weights import numbers
from tests.generation.models.small_unets import sv3d, sv3d_inputs, sv4d, sv4d_inputs

UNET = "model.diffusion_model."
PARAMETERS = {  # as the description of the reference counts them
    "sv3d_u": 1_523_967_722,
    "sv3d_p": 1_525_278_442,
    "sv4d": 1_996_625_322,
    "sv4d2": 2_010_961_338,
    "sv4d2_8views": 2_010_961_338,
}


def full_size(name: str) -> UNet:
    with torch.device("meta"):
        return find_architecture(name).build_unet()


@pytest.mark.parametrize("name", published)
def test_a_full_size_unet_has_the_published_tensors_and_no_others(name: str):
    network = full_size(name)
    expected: dict[str, Shape] = {
        key.removeprefix(UNET): shape
        for key, shape in expected_shapes(name).items()
        if key.startswith(UNET)
    }
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == expected
    assert sum(map(prod, expected.values())) == PARAMETERS[name]
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


def conditionings_of(inputs: dict, per_clip: int) -> list[Conditioning]:
    """Conditionings of the clips of a batch; `concat` is already part of the network's input."""
    clips = inputs["vector"].split(per_clip)
    contexts = inputs["context"].flatten(0, -2).split(len(inputs["context"].flatten(0, -2)) // 2)
    references = inputs.get("reference", [None, None])
    return [
        Conditioning(torch.empty(0), context, vector, reference)
        for context, vector, reference in zip(contexts, clips, references, strict=True)
    ]


def test_the_sampler_calls_sv3d_with_two_conditionings_as_a_batch():
    network, inputs = sv3d(), sv3d_inputs(b=2)
    found = predictor(network)(inputs["x"], inputs["noise"], conditionings_of(inputs, 3))
    assert torch.equal(found, network(**inputs))


def test_the_sampler_calls_sv4d_with_two_conditionings_as_a_batch():
    network, inputs = sv4d("sv4d2"), sv4d_inputs(b=2)
    found = predictor(network)(inputs["x"], inputs["noise"], conditionings_of(inputs, 12))
    assert torch.equal(found, network(**inputs))


def test_the_sampler_calls_with_one_conditioning_too():
    network, inputs = sv4d("sv4d"), sv4d_inputs()
    conditioning = Conditioning(
        torch.empty(0), inputs["context"][0], inputs["vector"], inputs["reference"][0]
    )
    found: Tensor = predictor(network)(
        numbers(12, 8, 4, 6, seed=1), inputs["noise"], [conditioning]
    )
    assert torch.equal(found, network(**inputs))
