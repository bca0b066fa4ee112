"""How the frames of SV3D depend on each other."""

import torch
from torch import Tensor

from generation.models.layers import sinusoidal_embedding
from generation.models.sv3d import SV3DConditions, SV3DTransformer
from tests.generation.models.plain_blocks import linear, plain_block
from tests.generation.models.random_weights import error, frames, numbers, with_random_weights
from tests.generation.models.small_unets import SV3D, sv3d, sv3d_inputs

C, E, F, H, W = 64, 256, 3, 2, 4


def conditions(b: int = 1, still: Tensor | None = None) -> SV3DConditions:
    return SV3DConditions(numbers(b * F, E, seed=1), numbers(b * F, 6, seed=2), F, still)


def moved(inputs: dict, frame: int) -> dict:
    return inputs | {"x": inputs["x"].index_add(0, torch.tensor([frame]), numbers(1, 8, 4, 6))}


def influenced(still: Tensor | None) -> list[list[bool]]:
    """Return whether a change of frame i affects frame j: [i][j]."""
    network, inputs = sv3d(), sv3d_inputs() | {"still": still}
    with torch.inference_mode():
        before = network(**inputs)
        after = [network(**moved(inputs, frame)) for frame in range(F)]
    return [(each != before).flatten(1).any(1).tolist() for each in after]


def test_every_frame_sees_every_other():
    assert influenced(None) == [[True] * F] * F


def test_still_frames_see_none_but_are_seen():
    still = torch.tensor([False, True, False])
    assert influenced(still) == [[True, False, True], [True, True, True], [True, False, True]]


def test_frames_that_are_all_still_are_images_by_themselves():
    network, inputs = sv3d(), sv3d_inputs()
    still = torch.ones(F, dtype=torch.bool)
    together = network(**inputs, still=still)
    for frame in range(F):
        one = {k: v[frame : frame + 1] for k, v in inputs.items() if isinstance(v, Tensor)}
        alone = network(**one, frames=1, still=still[:1])
        assert error(together[frame], alone[0]) < 1e-5


def test_no_still_frames_is_the_default():
    network, inputs = sv3d(), sv3d_inputs()
    named = network(**inputs, still=torch.zeros(F, dtype=torch.bool))
    torch.testing.assert_close(named, network(**inputs))


def test_the_transformer_is_the_plain_one():
    """Compute attention in space, then over frames with positions and the first token, blended."""
    layer = with_random_weights(SV3DTransformer(C, SV3D))
    x, given = frames(2 * F, C, H, W), conditions(2)
    found = layer(x, given)
    tokens = linear(layer.proj_in, layer.norm(x).flatten(2).transpose(1, 2))
    space, over_frames = layer._blocks
    tokens = torch.stack(
        [plain_block(space, *each) for each in zip(tokens, given.context, strict=True)]
    )
    positions = sinusoidal_embedding(torch.arange(F), C)
    positions = layer.time_pos_embed(positions).double()
    share = layer.time_mixer.mix_factor.double().sigmoid()
    blended = torch.empty_like(tokens)
    for clip in (slice(0, F), slice(F, 2 * F)):
        for pixel in range(H * W):
            before = tokens[clip, pixel]
            after = plain_block(over_frames, before + positions, given.context[clip][0])
            blended[clip, pixel] = share * before + (1 - share) * after
    expected = x + linear(layer.proj_out, blended).transpose(1, 2).unflatten(2, (H, W))
    assert error(found, expected) < 1e-5


def test_the_order_of_frames_matters():
    network, inputs = sv3d(), sv3d_inputs()
    flipped = {k: v.flip(0) if isinstance(v, Tensor) else v for k, v in inputs.items()}
    assert error(network(**flipped).flip(0), network(**inputs)) > 1e-3


def test_the_camera_and_the_noise_level_of_a_frame_are_its_own():
    network, inputs = sv3d(), sv3d_inputs() | {"still": torch.ones(F, dtype=torch.bool)}
    before = network(**inputs)
    for name in ("vector", "noise", "context"):
        changed = inputs[name].clone()
        changed[1] += 1
        after = network(**inputs | {name: changed})
        assert (after != before).flatten(1).any(1).tolist() == [False, True, False]
