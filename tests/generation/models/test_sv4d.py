"""How the times and views of SV4D depend on each other, against plain loops."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from generation.models.layers import sinusoidal_embedding
from generation.models.sv4d import (
    SV4DConditions,
    SV4DTransformer,
    attend_pixel_groups,
    attend_space,
    attend_times,
    attend_views,
)
from generation.models.transformer import SequenceBlock, TransformerBlock
from tests.generation.models.plain_blocks import linear, plain_block
from tests.generation.models.random_weights import error, frames, numbers, with_random_weights
from tests.generation.models.small_unets import SV4D, sv4d, sv4d_inputs

C, HEAD, CONTEXT, E = 64, 32, 6, 256
GRIDS = {  # b, T, V, P
    "one of each": (1, 1, 1, 1),
    "groups that fit": (1, 3, 4, 8),
    "groups that straddle views": (2, 3, 4, 9),
    "more views than pixels": (2, 2, 5, 3),
    "published middle block, cut down": (1, 2, 4, 81),
}


@pytest.fixture(params=GRIDS.values(), ids=list(GRIDS))
def grid(request: pytest.FixtureRequest) -> Tensor:
    return numbers(*request.param, C)


def tokens_of(grid: Tensor) -> Tensor:
    return numbers(*grid.shape[:2], CONTEXT, seed=1)


def plain_space(block: TransformerBlock, grid: Tensor, context: Tensor) -> Tensor:
    result = torch.empty_like(grid, dtype=torch.float64)
    for b, t, v in itertools.product(*map(range, grid.shape[:3])):
        result[b, t, v] = plain_block(block, grid[b, t, v], context[b, t])
    return result


def plain_views(block: SequenceBlock, grid: Tensor, context: Tensor) -> Tensor:
    result = torch.empty_like(grid, dtype=torch.float64)
    for b, t, p in itertools.product(*(range(grid.shape[axis]) for axis in (0, 1, 3))):
        result[b, t, :, p] = plain_block(block, grid[b, t, :, p], context[b, t])
    return result


def plain_pixel_groups(block: SequenceBlock, grid: Tensor, context: Tensor) -> Tensor:
    """Attend in groups of V rows (v, pixel); row g·T + t gets the token of time ⌊row / P⌋."""
    b_, T, V, P, _ = grid.shape
    result = torch.empty_like(grid, dtype=torch.float64)
    for b, t in itertools.product(range(b_), range(T)):
        positions = [(v, p) for v in range(V) for p in range(P)]
        for g in range(P):
            group = positions[g * V : (g + 1) * V]
            sequence = torch.stack([grid[b, t, v, p] for v, p in group])
            attended = plain_block(block, sequence, context[b, (g * T + t) // P])
            for row, (v, p) in zip(attended, group, strict=True):
                result[b, t, v, p] = row
    return result


def plain_times(block: SequenceBlock, grid: Tensor, reference: Tensor) -> Tensor:
    result = torch.empty_like(grid, dtype=torch.float64)
    for b, v, p in itertools.product(*(range(grid.shape[axis]) for axis in (0, 2, 3))):
        result[b, :, v, p] = plain_block(block, grid[b, :, v, p], reference[b, v, p])
    return result


@pytest.mark.parametrize(
    ("attend", "plain", "kind"),
    [
        (attend_space, plain_space, TransformerBlock),
        (attend_views, plain_views, SequenceBlock),
        (attend_pixel_groups, plain_pixel_groups, SequenceBlock),
    ],
)
def test_attention_is_the_plain_one_along_its_axis(
    grid: Tensor, attend: Callable, plain: Callable, kind: type[TransformerBlock]
):
    block, context = with_random_weights(kind(C, HEAD, CONTEXT)), tokens_of(grid)
    with torch.inference_mode():
        assert error(attend(block, grid, context), plain(block, grid, context)) < 1e-5


def test_attention_along_time_is_the_plain_one_conditioned_on_the_reference(grid: Tensor):
    block = with_random_weights(SequenceBlock(C, HEAD, 4))
    reference = numbers(grid.shape[0], *grid.shape[2:4], 4, seed=1)
    with torch.inference_mode():
        found, expected = attend_times(block, grid, reference), plain_times(block, grid, reference)
    assert error(found, expected) < 1e-5


B, T, V, H, W = 2, 3, 4, 3, 3


def conditions() -> SV4DConditions:
    return SV4DConditions(
        numbers(B * T * V, E, seed=1),
        numbers(B, T, CONTEXT, seed=2),
        numbers(B, V, 4, 2 * H, 2 * W, seed=3),
    )


@pytest.mark.parametrize("name", SV4D)
def test_the_transformer_is_the_plain_one(name: str):
    """Compute attention in space, blended with views, blended with times."""
    config = SV4D[name]
    layer, x = with_random_weights(SV4DTransformer(C, config)), frames(B * T * V, C, H, W)
    given = conditions()
    with torch.inference_mode():
        found = layer(x, given)
        grid = linear(layer.proj_in, layer.norm(x).flatten(2).transpose(1, 2))
        grid = grid.view(B, T, V, H * W, C)
        space, over_views, over_times = layer._blocks
        grid = plain_space(space, grid, given.context)
        emb = given.emb.view(B, T, V, E)[:, 0] if config.use_camera_emb else indices(V)
        views = layer.time_mix_time_embed(emb).double().expand(B, V, C)[:, None, :, None]
        plain = plain_pixel_groups if config.use_3d_attention else plain_views
        share = layer.time_mixer.mix_factor.double().sigmoid()
        grid = share * grid + (1 - share) * plain(over_views, grid + views, given.context)
        if config.separate_motion_merge_factor:
            share = layer.time_mixer_motion.mix_factor.double().sigmoid()
        times = layer.time_mix_motion_embed(indices(T)).double()[:, None, None]
        small = interpolate(given.reference.flatten(0, 1), (H, W), mode="bilinear")
        reference = small.flatten(2).transpose(1, 2).unflatten(0, (B, V))
        grid = share * grid + (1 - share) * plain_times(over_times, grid + times, reference)
        out = linear(layer.proj_out, grid.flatten(0, 2)).transpose(1, 2).unflatten(2, (H, W))
    assert error(found, x + out) < 1e-5


def indices(count: int) -> Tensor:
    return sinusoidal_embedding(torch.arange(count), C)


@pytest.mark.parametrize("name", ["sv4d2", "sv4d2_8views"])
def test_a_transformer_uses_the_cameras_of_the_first_time_only(name: str):
    layer, x = with_random_weights(SV4DTransformer(C, SV4D[name])), frames(B * T * V, C, H, W)
    given = conditions()
    before = layer(x, given)
    later, first = (given.emb.view(B, T, V, E).clone() for _ in range(2))
    later[:, 1:] += 1
    first[:, 0] += 1
    assert torch.equal(layer(x, given._replace(emb=later.flatten(0, 2))), before)
    assert not torch.equal(layer(x, given._replace(emb=first.flatten(0, 2))), before)


@pytest.mark.parametrize(
    ("name", "width", "seen"),
    [("sv4d", 4, {0, 1, 2, 3}), ("sv4d2", 4, {1}), ("sv4d2", 3, {0, 1, 2}),
     ("sv4d2_8views", 4, {0, 1, 2, 3})],
)  # fmt: skip
def test_views_see_each_other_in_attention_but_in_sv4d2_only_where_groups_straddle(
    name: str, width: int, seen: set[int]
):
    """Compute the effect of a change in view 1 of one clip."""
    layer, x = with_random_weights(SV4DTransformer(C, SV4D[name])), frames(B * T * V, C, 3, width)
    changed = x.clone()
    changed[1, :, 0, 0] += 1
    with torch.inference_mode():
        before, after = layer(x, conditions()), layer(changed, conditions())
    views = (before != after).flatten(1).any(1).view(B, T, V).any(1)
    assert set(views[0].nonzero().flatten().tolist()) == seen
    assert not views[1].any()


@pytest.mark.parametrize("name", SV4D)
@pytest.mark.parametrize(
    ("times", "views", "h", "w"),
    [(16, 5, 4, 2), (5, 8, 2, 4), (12, 4, 2, 2), (1, 4, 2, 6), (4, 1, 6, 2), (2, 3, 10, 2)],
)
def test_any_number_of_times_views_and_pixels_will_do(
    name: str, times: int, views: int, h: int, w: int
):
    network, inputs = sv4d(name), sv4d_inputs(1, times, views, h, w)
    with torch.inference_mode():
        found = network(**inputs)
    assert found.shape == (times * views, 4, h, w)
    assert found.isfinite().all()
    assert float(found.std()) > 1e-3


@pytest.mark.parametrize("name", SV4D)
def test_every_frame_sees_every_other_and_every_token_and_reference(name: str):
    network = sv4d(name).double()
    inputs = {k: v.double() for k, v in sv4d_inputs(T=2, V=3, h=2, w=2).items()}
    with torch.inference_mode():
        before = network(**inputs)
        for key, value in inputs.items():
            rows = value if key != "context" and key != "reference" else value[0]
            for row in range(len(rows)):
                changed = value.clone()
                (changed if rows is value else changed[0])[row] += 1
                after = network(**inputs | {key: changed})
                assert (after != before).flatten(1).any(1).all(), (key, row)
