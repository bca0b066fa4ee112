"""Residuals of structure branches: zero if untrained, at the right points, for any view order."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from generation.models.appearance_propagation import ROLES, AppearancePropagation
from generation.models.structure_branch import BRANCHES, Structure, StructureBranch, build_branch
from generation.models.sv4d import SV4DConditions, SV4DConfig, SV4DUNet
from generation.models.unet import input_points, upsampled_points
from recon.errors import InputError
from tests.generation.models.random_weights import error, frames, numbers, with_random_weights
from tests.generation.models.small_unets import SV4D, sv4d, sv4d_inputs
from tests.generation.tiny_networks import TINY

CONFIG = SV4D["sv4d"]
T, V = 3, 4
DEEP = replace(CONFIG, channel_mult=(1, 2, 1), num_res_blocks=2)
WIDE = replace(CONFIG, model_channels=32, channel_mult=(2, 3))  # than the first convolution


@pytest.fixture(params=BRANCHES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def structure(b: int = 1, h: int = 4, w: int = 6, V: int = V) -> Structure:
    return Structure(numbers(b, T, V, 4, h, w, seed=11), numbers(b, T, 4, h, w, seed=12))


def trained(
    name: str, config: SV4DConfig = CONFIG, roles: str = "reference_query"
) -> StructureBranch:
    return with_random_weights(build_branch(name, config, roles))


def call(config: SV4DConfig, b: int = 1, h: int = 4, w: int = 6, V: int = V):
    """The UNet's input and the conditions of a call."""
    conditions = SV4DConditions(
        numbers(b * T * V, config.embedding, seed=21),
        numbers(b, T, config.context_dim, seed=22),
        numbers(b, V, 4, h, w, seed=23),
    )
    return frames(b * T * V, 8, h, w, seed=24), conditions


@pytest.mark.parametrize("roles", ROLES)
def test_an_untrained_branch_changes_nothing_bit_for_bit(name: str, roles: str):
    network, inputs = sv4d("sv4d"), sv4d_inputs()
    branch = build_branch(name, CONFIG, roles)
    branch.init_from_unet(network)
    found = network(**inputs, feature_residuals=branch(structure()))
    assert torch.equal(found, network(**inputs))


@pytest.mark.parametrize("roles", ROLES)
def test_the_first_level_may_be_wider_than_the_first_convolution(name: str, roles: str):
    network, inputs = with_random_weights(SV4DUNet(WIDE)), sv4d_inputs()
    branch, given = build_branch(name, WIDE, roles), structure()
    branch.init_from_unet(network)
    expected = network(**inputs)
    assert torch.equal(network(**inputs, feature_residuals=branch(given)), expected)
    found = network(**inputs, feature_residuals=with_random_weights(branch)(given))
    assert error(found, expected) > 1e-2


def test_a_trained_branch_changes_the_prediction_with_its_input(name: str):
    network, inputs, branch = sv4d("sv4d"), sv4d_inputs(), trained(name)
    given = structure()
    found = network(**inputs, feature_residuals=branch(given))
    assert error(found, network(**inputs)) > 1e-2
    for other in (
        given._replace(coarse=given.coarse + numbers(*given.coarse.shape, seed=7)),
        given._replace(video=given.video + numbers(*given.video.shape, seed=8)),
    ):
        assert error(network(**inputs, feature_residuals=branch(other)), found) > 1e-4


@pytest.mark.parametrize("size", [(4, 12), (20, 8)])
def test_residuals_have_the_points_and_sizes_of_any_network(name: str, size: tuple[int, int]):
    h, w = size
    for config in (DEEP, WIDE, replace(SV4DConfig(), **TINY)):
        added = build_branch(name, config)(structure(h=h, w=w))(*call(config, h=h, w=w))
        assert added.keys() == expected_points(name, config)
        sizes = {f"{kind}_{p.index}": p for kind in ("input", "skip") for p in input_points(config)}
        sizes |= {point.name: point for point in upsampled_points(config)}
        sizes["middle_0"] = input_points(config)[-1]
        for key, feature in added.items():
            point = sizes[key]
            wanted = (T * V, point.channels, h >> point.level, w >> point.level)
            assert feature.shape == wanted
            assert feature.is_contiguous(memory_format=torch.channels_last)


def expected_points(name: str, config: SV4DConfig) -> set[str]:
    levels, blocks = len(config.channel_mult), config.num_res_blocks
    skips = range(levels * (blocks + 1))
    match name:
        case "layerwise":
            up = range(1, levels)
            return {f"input_{i}" for i in skips} | {f"output_{i * (blocks + 1) - 1}" for i in up}
        case "controlnet":
            return {f"skip_{i}" for i in skips} | {"middle_0"}
        case _:
            return {f"input_{(level + 1) * (blocks + 1) - 1}" for level in range(levels)}


def test_every_point_has_a_map_with_the_given_roles(name: str):
    for roles, kind in ROLES.items():
        branch = build_branch(name, DEEP, roles)
        found = [m for m in branch.modules() if isinstance(m, AppearancePropagation)]
        assert len(found) == len(expected_points(name, DEEP))
        assert {type(each) for each in found} == {kind}


@pytest.mark.parametrize("roles", ROLES)
@pytest.mark.parametrize(
    "name", ["layerwise", "t2i_adapter"]
)  # views have an order in ControlNet's
def test_permuting_the_views_permutes_the_residuals(name: str, roles: str):
    branch, given, order = trained(name, DEEP, roles), structure(b=2, h=8, w=4), [2, 0, 3, 1]
    x, conditions = call(DEEP, 2, 8, 4)
    expected = branch(given)(x, conditions)
    found = branch(given._replace(coarse=given.coarse[:, :, order]))(x, conditions)
    for key, feature in found.items():
        views = expected[key].unflatten(0, (2 * T, V))[:, order]
        torch.testing.assert_close(feature, views.flatten(0, 1), rtol=1e-4, atol=1e-4)


def test_clips_of_a_batch_do_not_see_each_other(name: str):
    branch, given, (x, conditions) = trained(name), structure(b=2), call(CONFIG, b=2)
    both = branch(given)(x, conditions)
    for clip in range(2):
        part = slice(clip * T * V, (clip + 1) * T * V)
        own = SV4DConditions(
            conditions.emb[part], *(each[clip : clip + 1] for each in conditions[1:])
        )
        alone = branch(Structure(*(each[clip : clip + 1] for each in given)))(x[part], own)
        for key, feature in alone.items():
            assert error(feature, both[key][part]) < 1e-4


def test_one_structure_serves_all_batch_items_of_a_call(name: str):
    """Guidance calls the network with the same frames twice, under two conditionings."""
    network, inputs, branch, one = sv4d("sv4d"), sv4d_inputs(b=2), trained(name), structure()
    twice = Structure(*(torch.cat([each, each]) for each in one))
    found = network(**inputs, feature_residuals=branch(one))
    assert error(found, network(**inputs, feature_residuals=branch(twice))) < 1e-5


def test_a_coarse_grid_of_another_size_is_resized_to_the_video(name: str):
    given = structure()
    small = given._replace(coarse=numbers(1, T, V, 4, 2, 3, seed=11))
    large = torch.nn.functional.interpolate(small.coarse[0].flatten(0, 1), (4, 6), mode="bilinear")
    branch, arguments = trained(name), call(CONFIG)
    found = branch(small)(*arguments)
    expected = branch(given._replace(coarse=large.view(1, T, V, 4, 4, 6)))(*arguments)
    assert all(error(found[key], expected[key]) < 1e-5 for key in expected)


@pytest.mark.parametrize("name", ["layerwise", "t2i_adapter"])
def test_pyramid_branches_run_once_for_all_steps(name: str):
    residuals = build_branch(name, CONFIG)(structure())
    x, conditions = call(CONFIG)
    first, second = residuals(x, conditions), residuals(-x, conditions)
    assert all(first[key] is second[key] for key in first)


def test_the_controlnet_depends_on_noisy_latents_conditioning_and_structure():
    branch, given, (x, conditions) = trained("controlnet"), structure(), call(CONFIG)
    base = branch(given)(x, conditions)
    noisier = branch(given)(2 * x, conditions)
    elsewhere = branch(given)(x, conditions._replace(emb=-conditions.emb))
    other = branch(given._replace(coarse=-given.coarse))(x, conditions)
    for changed in (noisier, elsewhere, other):
        assert error(changed["middle_0"], base["middle_0"]) > 1e-3


def test_a_controlnet_starts_as_a_copy_of_the_encoder_with_parameters_of_its_own():
    network, branch = sv4d("sv4d"), build_branch("controlnet", CONFIG)
    branch.init_from_unet(network)
    state, copied = network.state_dict(), 0
    for key, tensor in branch.state_dict().items():
        if key.startswith(("input_blocks.", "middle_block.")):
            assert torch.equal(tensor, state[key])
            assert tensor.data_ptr() != state[key].data_ptr()
            copied += 1
    assert copied == sum(key.startswith(("input_blocks.", "middle_block.")) for key in state)


def test_the_fine_stage_trains_all_of_the_branch_and_leaves_the_base_as_it_was(name: str):
    network, inputs, branch = sv4d("sv4d").requires_grad_(False), sv4d_inputs(), trained(name)
    network(**inputs, feature_residuals=branch(structure())).square().mean().backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    without = {key for key, p in branch.named_parameters() if not reached(p.grad)}
    assert without == {key for key, _ in branch.named_parameters() if unused(key)}


def reached(gradient: Tensor | None) -> bool:
    return gradient is not None and float(gradient.abs().max()) > 1e-12


def unused(key: str) -> bool:
    """Parameters without effect in the published network have none in its copy."""
    return any(part in key for part in (".norm2.", ".attn2.to_q.", ".attn2.to_k."))


def test_a_few_steps_of_training_from_an_untrained_branch_lower_the_loss(name: str):
    network, inputs = sv4d("sv4d").requires_grad_(False), sv4d_inputs()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    branch, given = fresh(name, network), structure()
    optimizer = torch.optim.Adam(branch.parameters(), lr=3e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = (network(**inputs, feature_residuals=branch(given)) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def fresh(name: str, network: SV4DUNet) -> StructureBranch:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        branch = build_branch(name, CONFIG)
    branch.init_from_unet(network)
    return branch


def test_half_precision_is_close_to_float32(name: str):
    branch, given, arguments = trained(name), structure(), call(CONFIG)
    with torch.inference_mode():
        expected = branch(given)(*arguments)
        found = branch.bfloat16()(given)(*arguments)
    for key, feature in found.items():
        assert feature.dtype == torch.bfloat16
        difference = (feature.float() - expected[key]).square().mean().sqrt()
        assert difference < 0.05 * expected[key].square().mean().sqrt()


def test_the_number_of_views_may_be_another_than_in_training(name: str):
    branch = trained(name)
    for views in (1, 2, 6):
        added = branch(structure(V=views))(*call(CONFIG, V=views))
        assert {len(feature) for feature in added.values()} == {T * views}


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"'layer'.*layerwise, controlnet, t2i_adapter"):
        build_branch("layer", CONFIG)
    with pytest.raises(InputError, match=r"'query'.*reference_query, feature_query"):
        build_branch("layerwise", CONFIG, "query")


def test_all_residuals_come_from_zero_convolutions(name: str):
    branch = build_branch(name, CONFIG)
    outs = [module for key, module in branch.named_modules() if key.endswith(".out")]
    assert len(outs) == len(expected_points(name, CONFIG))
    for out in outs:
        assert isinstance(out, nn.Conv2d)
        assert out.kernel_size == (1, 1)
        assert not out.weight.any()
        assert out.bias is not None
        assert not out.bias.any()
