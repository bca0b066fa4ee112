"""MAP against eq. 3 of the paper with the video repeated, in float64, one head at a time."""

import math

import pytest
import torch
from torch import Tensor

from generation.models.appearance_propagation import (
    ROLES,
    AppearancePropagation,
    FeatureQuery,
    ReferenceQuery,
)
from generation.models.layers import GroupNorm
from tests.generation.models.plain_blocks import linear
from tests.generation.models.random_weights import error, frames, gradients, with_random_weights

n, V, C, C_R, HEAD, h, w = 3, 4, 64, 96, 16, 2, 5


@pytest.fixture(params=ROLES)
def roles(request: pytest.FixtureRequest) -> str:
    return request.param


def module(roles: str) -> AppearancePropagation:
    return with_random_weights(ROLES[roles](C, C_R, HEAD))


def layout_and_reference() -> tuple[Tensor, Tensor]:
    return frames(n * V, C, h, w, seed=1), 3 * frames(n, C_R, h, w, seed=2) + 1


def plain(layer: AppearancePropagation, layout: Tensor, reference: Tensor) -> Tensor:
    """Compute eq. 3 over all w·h·V positions of a time with a full attention matrix."""
    normed = plain_norm(layer.norm, reference.double())
    results = []
    for time in range(n):
        of_layout = rows(layout[time * V : (time + 1) * V].double())
        of_video = rows(normed[time : time + 1].repeat(V, 1, 1, 1))
        asking, asked = of_layout, of_video
        if isinstance(layer, ReferenceQuery):
            asking, asked = of_video, of_layout
        q, k, v = linear(layer.to_q, asking), linear(layer.to_k, asked), linear(layer.to_v, asked)
        heads = []
        for part in (slice(start, start + HEAD) for start in range(0, C, HEAD)):
            weights = (q[:, part] @ k[:, part].T / math.sqrt(HEAD)).softmax(-1)
            heads.append(weights @ v[:, part])
        found = of_layout + linear(layer.to_out, torch.cat(heads, 1))
        results.append(found.view(V, h, w, C).permute(0, 3, 1, 2))
    return torch.cat(results)


def plain_norm(norm: GroupNorm, x: Tensor) -> Tensor:
    """Compute group norm without torch's kernel, whose backward pass crashes here on a CPU."""
    groups = x.unflatten(1, (32, -1))
    centred = groups - groups.mean((2, 3, 4), keepdim=True)
    scaled = centred / (centred.square().mean((2, 3, 4), keepdim=True) + 1e-5).sqrt()
    weight, bias = norm.weight.double(), norm.bias.double()
    return scaled.flatten(1, 2) * weight[:, None, None] + bias[:, None, None]


def rows(x: Tensor) -> Tensor:
    """Reshape [V, C, h, w] to [V·h·w, C]."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def test_the_result_is_that_of_the_papers_equation(roles: str):
    layer, (layout, reference) = module(roles), layout_and_reference()
    found = layer(layout, reference)
    assert found.shape == layout.shape
    assert error(found - layout, plain(layer, layout, reference) - layout.double()) < 1e-5
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_gradients_are_those_of_the_papers_equation(roles: str):
    layer, (layout, reference) = module(roles), layout_and_reference()
    found = gradients(layer(layout, reference).square().sum(), layer)
    expected = gradients(plain(layer, layout, reference).square().sum(), layer)
    for key, gradient in expected.items():
        assert gradient is not None
        assert found[key] is not None
        torch.testing.assert_close(found[key], gradient, rtol=1e-3, atol=1e-3)


def test_permuting_the_views_permutes_the_result(roles: str):
    layer, (layout, reference) = module(roles), layout_and_reference()
    order = torch.tensor([2, 0, 3, 1])
    permuted = layer(layout.unflatten(0, (n, V))[:, order].flatten(0, 1), reference)
    expected = layer(layout, reference).unflatten(0, (n, V))[:, order].flatten(0, 1)
    torch.testing.assert_close(permuted, expected)


def test_times_do_not_see_each_other(roles: str):
    layer, (layout, reference) = module(roles), layout_and_reference()
    alone = layer(layout[V : 2 * V], reference[1:2])
    torch.testing.assert_close(alone, layer(layout, reference)[V : 2 * V])


def test_a_change_of_one_view_reaches_the_others_only_where_the_views_answer_together():
    layout, reference = layout_and_reference()
    changed = layout.clone()
    changed[0] += frames(C, 1, h, w, seed=3)[:, 0]
    reached = {
        roles: not torch.allclose(layer(changed, reference)[1], layer(layout, reference)[1])
        for roles, layer in ((each, module(each)) for each in ROLES)
    }
    assert reached == {"reference_query": True, "feature_query": False}


def test_in_the_papers_roles_all_views_of_a_time_get_the_same_and_in_the_usual_ones_not():
    layout, reference = layout_and_reference()
    for kind, alike in ((ReferenceQuery, True), (FeatureQuery, False)):
        layer = with_random_weights(kind(C, C_R, HEAD))
        added = (layer(layout, reference) - layout).unflatten(0, (n, V))
        assert torch.allclose(added, added[:, :1].expand_as(added), atol=1e-5) == alike
