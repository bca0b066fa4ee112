"""The UNet and its feature points."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from generation.models.layers import (
    FrameConvolution,
    GroupNorm,
    pixels_as_tokens,
    tokens_as_pixels,
)
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import (
    ConditionedLayer,
    Downsample,
    UNet,
    UNetConfig,
    Upsample,
    add_residual,
    input_points,
    middle_point,
    skip_points,
    upsampled_points,
)
from tests.generation.models.random_weights import (
    error,
    frames,
    gradients,
    with_random_weights,
)
from tests.generation.models.small_unets import (
    SMALL,
    SV3D,
    SV4D,
    WITHOUT_EFFECT,
    sv3d,
    sv3d_inputs,
    sv4d,
    sv4d_inputs,
)

NAMES = ("sv3d", "sv4d", "sv4d2", "sv4d2_8views")
Inputs = dict[str, Any]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def network_of(name: str) -> UNet:
    return sv3d() if name == "sv3d" else sv4d(name)


def inputs_of(name: str, **sizes: int) -> Inputs:
    return sv3d_inputs(**sizes) if name == "sv3d" else sv4d_inputs(**sizes)


def cast(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    return {k: change(v) if isinstance(v, Tensor) else v for k, v in inputs.items()}


def test_the_published_skeleton_is_that_of_the_index_map():
    with torch.device("meta"):
        network = SV3DUNet(UNetConfig())
    stages = [*network.input_blocks, network.middle_block, *network.output_blocks]
    kinds = ["".join(map(kind_of, layers(stage))) for stage in stages]
    assert kinds == [
        "c", "RT", "RT", "d", "RT", "RT", "d", "RT", "RT", "d", "R", "R",
        "RTR",
        "R", "R", "Ru", "RT", "RT", "RTu", "RT", "RT", "RTu", "RT", "RT", "RT",
    ]  # fmt: skip
    assert network.config.downsampling == 8
    assert network.config.embedding == 1280


def kind_of(layer: nn.Module) -> str:
    match layer:
        case Downsample():
            return "d"
        case Upsample():
            return "u"
        case nn.Conv2d():
            return "c"
    return type(layer).__name__.removeprefix("SV3D")[0]


def layers(stage: nn.Module) -> Iterator[nn.Module]:
    assert isinstance(stage, nn.ModuleList)
    return iter(stage)


def test_a_call_gives_one_prediction_for_each_frame_of_latents_of_any_even_size(name: str):
    network = network_of(name)
    for h, w in ((2, 2), (6, 4), (2, 10)):
        inputs = inputs_of(name, b=2, h=h, w=w)
        found = network(**inputs)
        assert found.shape == (len(inputs["x"]), 4, h, w)
        assert found.isfinite().all()


def test_the_first_level_may_be_wider_than_the_first_convolution(name: str):
    wider: dict[str, Any] = {"model_channels": 32, "channel_mult": (2, 3)}
    network: UNet = (
        SV3DUNet(replace(SV3D, **wider))
        if name == "sv3d"
        else SV4DUNet(replace(SV4D[name], **wider))
    )
    inputs = inputs_of(name)
    found = with_random_weights(network)(**inputs)
    assert found.shape == (len(inputs["x"]), 4, 4, 6)
    assert found.isfinite().all()
    reached = gradients(found.square().mean(), network)
    assert [key for key, each in reached.items() if each is None] == [
        key for key in reached if any(part in key for part in WITHOUT_EFFECT)
    ]


def test_clips_of_a_batch_do_not_see_each_other(name: str):
    network, both = network_of(name), inputs_of(name, b=2)
    alone = [network(**cast(both, lambda value, i=index: value.chunk(2)[i])) for index in range(2)]
    assert error(network(**both), torch.cat(alone)) < 1e-4


def test_features_stay_channels_last_through_every_layer(name: str):
    network = network_of(name)
    seen: dict[str, bool] = {}

    def look(label: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            for features in (inputs[0], output):
                last = features.is_contiguous(memory_format=torch.channels_last)
                seen[label] = seen.get(label, True) and last

        return hook

    kinds = (ConditionedLayer, GroupNorm, nn.Conv2d, FrameConvolution, Downsample, Upsample)
    for label, module in network.named_modules():
        if isinstance(module, kinds):
            module.register_forward_hook(look(label))
    with torch.inference_mode():
        network(**inputs_of(name))
    assert len(seen) > 40
    assert [label for label, last in seen.items() if not last] == []


COPYING = (torch.ops.aten.clone, torch.ops.aten.copy_, torch.ops.aten._to_copy)


class Copies(TorchDispatchMode):
    """Count the elements of tensors that are copied unchanged."""

    def __init__(self):
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in COPYING:
            self.sizes.append(result.numel())
        return result


def test_no_layer_copies_features_to_move_their_axes(name: str):
    """Only the input is copied, once, to channels-last memory."""
    network, inputs = network_of(name), inputs_of(name)
    with torch.no_grad(), Copies() as copies:
        network(**inputs)
    assert inputs["x"].numel() in copies.sizes
    assert max(copies.sizes) == inputs["x"].numel()


def test_weights_in_channels_last_memory_change_nothing_but_their_layout(name: str):
    network, inputs = network_of(name), inputs_of(name)
    before, state = network(**inputs), {k: v.clone() for k, v in network.state_dict().items()}
    parameters = list(network.parameters())
    network.to_channels_last()
    assert error(network(**inputs), before) < 1e-4
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert all(
        module.weight.is_contiguous(memory_format=torch.channels_last) for module in convolutions
    )


def test_limited_memory_gives_the_same_prediction_and_gradients(name: str):
    network = network_of(name).double()
    inputs = cast(inputs_of(name, h=2, w=4), Tensor.double)
    expected = network(**inputs)
    wanted = gradients(expected.square().sum(), network)
    network.limit_memory(20)
    found = network(**inputs)
    assert error(found, expected) < 1e-9
    for key, gradient in gradients(found.square().sum(), network).items():
        torch.testing.assert_close(gradient, wanted[key], rtol=1e-6, atol=1e-8)
    network.limit_memory(None)
    assert torch.equal(network(**inputs), expected)


def test_gradients_reach_every_parameter_that_has_an_effect_and_no_other(name: str):
    network = network_of(name).double()
    prediction = network(**cast(inputs_of(name), Tensor.double))
    found = gradients(prediction.square().mean(), network)
    without = {key for key, gradient in found.items() if gradient is None}
    assert without == {key for key in found if any(part in key for part in WITHOUT_EFFECT)}
    sizes = {key: float(g.abs().max()) for key, g in found.items() if g is not None}
    assert {key: size for key, size in sizes.items() if not size > 1e-9} == {}


def test_parameters_without_effect_may_be_anything(name: str):
    network, inputs = network_of(name), inputs_of(name)
    before = network(**inputs)
    for key, parameter in network.named_parameters():
        if any(part in key for part in WITHOUT_EFFECT):
            parameter.data.fill_(torch.nan)
    assert torch.equal(network(**inputs), before)


def test_a_few_steps_of_training_lower_the_loss(name: str):
    network, inputs = network_of(name), inputs_of(name, h=2, w=4)
    target = frames(len(inputs["x"]), 4, 2, 4, seed=9)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = (network(**inputs) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_bfloat16_is_close_to_float32(name: str):
    network, inputs = network_of(name), inputs_of(name)
    with torch.inference_mode():
        expected = network(**inputs)
        found = network.bfloat16()(**inputs)
    assert found.dtype == network.dtype == torch.bfloat16
    difference = (found.float() - expected).square().mean().sqrt()
    assert difference < 0.03 * expected.square().mean().sqrt()


def test_tokens_are_the_memory_of_pixels_and_the_way_back_is_the_inverse():
    x = frames(2, 5, 3, 4)
    tokens = pixels_as_tokens(x)
    assert tokens.shape == (2, 12, 5)
    assert tokens.data_ptr() == x.data_ptr()
    assert torch.equal(tokens[1, 7], x[1, :, 1, 3])
    back = tokens_as_pixels(tokens, 3, 4)
    assert back.data_ptr() == x.data_ptr()
    assert torch.equal(back, x)


UNEVEN = SV4DConfig(**{**SMALL, "channel_mult": (1, 3, 2), "num_res_blocks": 2})


@pytest.mark.parametrize("config", [UNEVEN, *SV4D.values()], ids=["uneven", *SV4D])
@pytest.mark.parametrize("size", [(4, 12), (20, 8)])
def test_feature_points_have_the_sizes_of_the_features_that_a_call_makes(
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
    points = [*input_points(config), middle_point(config), *upsampled_points(config)]
    for point in points:
        expected = (point.channels, h >> point.level, w >> point.level)
        assert made[point.name].shape[1:] == expected, point
    assert len(input_points(config)) == len(network.input_blocks)
    grown = [f"output_{i}" for i, b in enumerate(network.output_blocks) if grows(b)]
    assert [point.name for point in upsampled_points(config)] == grown


def note(made: dict[str, Tensor], name: str, layer: nn.Module, inputs: tuple, out: Tensor) -> None:
    """A hook that records the output of a layer."""
    made[name] = out


def last_layer(block: nn.Module) -> nn.Module:
    return list(block.children())[-1]


def grows(block: nn.Module) -> bool:
    return type(last_layer(block)).__name__ == "Upsample"


def test_the_published_network_has_twelve_skips_and_three_upsampled_features():
    config = UNetConfig()
    assert [point.level for point in input_points(config)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [point.name for point in upsampled_points(config)] == [
        "output_2",
        "output_5",
        "output_8",
    ]
    assert [point.channels for point in upsampled_points(config)] == [1280, 1280, 640]


def test_no_residuals_and_zeros_are_the_plain_network_bit_for_bit():
    network, inputs = sv4d("sv4d"), sv4d_inputs()
    plain = network(**inputs)
    assert torch.equal(network(**inputs, feature_residuals=lambda x, conditions: {}), plain)
    zeros = {
        point.name: torch.zeros(12, point.channels, 4 >> point.level, 6 >> point.level)
        for point in every_point(network.config)
    }
    assert torch.equal(network(**inputs, feature_residuals=lambda x, conditions: zeros), plain)


def every_point(config: UNetConfig):
    return [
        *input_points(config),
        *skip_points(config),
        middle_point(config),
        *upsampled_points(config),
    ]


def test_a_residual_at_any_point_changes_the_prediction():
    network, inputs = sv4d("sv4d"), sv4d_inputs()
    plain, found = network(**inputs), {}
    for point in every_point(network.config):
        feature = frames(12, point.channels, 4 >> point.level, 6 >> point.level)
        found[point.name] = network(
            **inputs, feature_residuals=lambda x, c, p=point, f=feature: {p.name: f}
        )
        assert error(found[point.name], plain) > 1e-3, point
    for point in input_points(network.config)[:-1]:
        assert not torch.equal(found[point.name], found[f"skip_{point.index}"])


def test_a_skip_residual_does_not_reach_the_encoder():
    network, inputs = sv4d("sv4d"), sv4d_inputs()
    feature = frames(12, 64, 4, 6)
    made: dict[str, Tensor] = {}
    for name in ("nothing", "skip_0", "input_0"):
        handle = last_layer(network.middle_block).register_forward_hook(partial(note, made, name))
        network(**inputs, feature_residuals=lambda x, conditions, n=name: {n: feature})
        handle.remove()
    assert torch.equal(made["skip_0"], made["nothing"])
    assert not torch.equal(made["input_0"], made["nothing"])


def test_a_residual_is_repeated_over_the_batch():
    x, added = frames(6, 64, 2, 4), frames(3, 64, 2, 4, seed=1)
    found = add_residual(x, added)
    assert torch.equal(found, x + torch.cat([added, added]))
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert add_residual(x, None) is x


def test_residuals_get_the_input_and_the_conditions_and_take_the_features_dtype():
    network, inputs = sv4d("sv4d").bfloat16(), sv4d_inputs()
    calls: list[Any] = []

    def residuals(x: Tensor, conditions: Any) -> dict[str, Tensor]:
        calls.append((x, conditions))
        return {"input_1": frames(12, 64, 4, 6)}

    assert network(**inputs, feature_residuals=residuals).dtype == torch.bfloat16
    [(x, conditions)] = calls
    assert torch.equal(x, inputs["x"].bfloat16())
    assert (conditions.times, conditions.views) == (3, 4)
