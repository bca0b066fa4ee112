"""CLIP against a vision transformer written from its definition, and the small encoder."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, interpolate, layer_norm
from transformers import CLIPVisionConfig

from generation.models.image_encoders import (
    CLIP_MEAN,
    CLIP_SIDE,
    CLIP_STD,
    VIT_H_14,
    CLIPImageEncoder,
    ConvImageEncoder,
    ConvImageEncoderConfig,
    clip_preprocess,
    clip_state,
)
from generation.weights.catalogue import expected_shapes, published
from recon.errors import InputError
from tests.generation.models.random_weights import error, numbers

WIDTH, INNER, LAYERS, HEADS, PATCH, TOKEN = 24, 40, 3, 3, 56, 10
CONFIG: dict[str, Any] = VIT_H_14 | {
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "patch_size": PATCH,
    "projection_dim": TOKEN,
}
PREFIX = "conditioner.embedders.0.open_clip.model.visual."


def small_clip() -> CLIPImageEncoder:
    return CLIPImageEncoder(CLIPVisionConfig(**CONFIG)).eval()


def openclip_weights() -> dict[str, Tensor]:
    """Random weights under OpenCLIP's names."""
    positions = (CLIP_SIDE // PATCH) ** 2 + 1
    shapes: dict[str, tuple[int, ...]] = {
        "class_embedding": (WIDTH,),
        "positional_embedding": (positions, WIDTH),
        "proj": (WIDTH, TOKEN),
        "conv1.weight": (WIDTH, 3, PATCH, PATCH),
    }
    norms = ["ln_pre", "ln_post"]
    for index in range(LAYERS):
        block = f"transformer.resblocks.{index}."
        norms += [f"{block}ln_1", f"{block}ln_2"]
        shapes |= {
            f"{block}attn.in_proj_weight": (3 * WIDTH, WIDTH),
            f"{block}attn.in_proj_bias": (3 * WIDTH,),
            f"{block}attn.out_proj.weight": (WIDTH, WIDTH),
            f"{block}attn.out_proj.bias": (WIDTH,),
            f"{block}mlp.c_fc.weight": (INNER, WIDTH),
            f"{block}mlp.c_fc.bias": (INNER,),
            f"{block}mlp.c_proj.weight": (WIDTH, INNER),
            f"{block}mlp.c_proj.bias": (WIDTH,),
        }
    shapes |= {f"{norm}.{part}": (WIDTH,) for norm in norms for part in ("weight", "bias")}
    return {
        name: 2 * numbers(*shape, seed=index) / math.sqrt(WIDTH)
        for index, (name, shape) in enumerate(shapes.items())
    }


def vision_transformer(weights: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """Compute a vision transformer by its definition, float64: the projected class token."""
    w = {name: tensor.double() for name, tensor in weights.items()}

    def norm(name: str, x: Tensor) -> Tensor:
        return layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-5)

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = conv2d(pixels.double(), w["conv1.weight"], stride=PATCH).flatten(2).transpose(1, 2)
    x = torch.cat([w["class_embedding"].expand(len(x), 1, -1), x], 1) + w["positional_embedding"]
    x = norm("ln_pre", x)
    for index in range(LAYERS):
        block = f"transformer.resblocks.{index}."
        attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=torch.float64)
        prefix = f"{block}attn."
        attention.load_state_dict(
            {k.removeprefix(prefix): v for k, v in w.items() if k.startswith(prefix)}
        )
        y = norm(f"{block}ln_1", x)
        x = x + attention(y, y, y, need_weights=False)[0]
        y = norm(f"{block}ln_2", x)
        x = x + linear(f"{block}mlp.c_proj", gelu(linear(f"{block}mlp.c_fc", y)))
    return norm("ln_post", x[:, 0]) @ w["proj"]


def test_clip_is_openclips_vision_transformer():
    encoder, weights = small_clip(), openclip_weights()
    encoder.load_state_dict(clip_state(weights))
    images = numbers(2, 3, CLIP_SIDE, CLIP_SIDE).clamp(-1, 1)
    with torch.inference_mode():
        found = encoder(images)
        expected = vision_transformer(weights, clip_preprocess(images))
    assert found.shape == (2, TOKEN)
    assert error(found, expected) < 1e-5
    assert float(expected.norm(dim=-1).sub(1).abs().min()) > 0.1  # it is not normalized


@pytest.mark.parametrize("name", published)
def test_every_published_tensor_is_read_and_every_parameter_is_published(name: str):
    part = {
        key.removeprefix(PREFIX): torch.empty(shape, device="meta")
        for key, shape in expected_shapes(name).items()
        if key.startswith(PREFIX)
    }
    with torch.device("meta"):
        expected = CLIPImageEncoder().state_dict()
    found = clip_state(part)
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}
    q_k_and_v_of_one = 2 * sum(".in_proj_" in key for key in part)
    assert len(found) == len(part) + q_k_and_v_of_one


def test_clip_from_the_meta_device_has_position_ids():
    with torch.device("meta"):
        encoder = CLIPImageEncoder(CLIPVisionConfig(**CONFIG)).eval()
    encoder.init_position_ids()
    encoder.load_state_dict(clip_state(openclip_weights()), assign=True)
    usual = small_clip()
    usual.load_state_dict(clip_state(openclip_weights()))
    images = numbers(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(images), usual(images))


@pytest.mark.parametrize("size", [(CLIP_SIDE, CLIP_SIDE), (576, 576), (64, 100), (300, 500)])
def test_an_image_of_one_color_is_only_normalized(size: tuple[int, int]):
    color = torch.tensor([-1.0, 0.2, 1.0])[:, None, None]
    found = clip_preprocess(color.expand(1, 3, *size))
    mean, std = torch.tensor(CLIP_MEAN)[:, None, None], torch.tensor(CLIP_STD)[:, None, None]
    expected = ((color + 1) / 2 - mean) / std
    torch.testing.assert_close(
        found, expected.expand(1, 3, CLIP_SIDE, CLIP_SIDE), rtol=0, atol=1e-4
    )


def test_an_image_of_the_right_size_is_only_normalized():
    image = numbers(1, 3, CLIP_SIDE, CLIP_SIDE).clamp(-1, 1)
    restored = denormalized(clip_preprocess(image))
    torch.testing.assert_close(restored, image, rtol=0, atol=1e-4)


def test_a_larger_image_is_blurred_as_much_as_each_side_shrinks():
    image = numbers(1, 3, 336, 448).clamp(-1, 1)
    blurred = image.double().numpy()
    for axis, sigma, radius in ((2, 0.25, 1), (3, 0.5, 1)):
        kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
        blurred = convolve1d(blurred, kernel / kernel.sum(), axis=axis, mode="mirror")
    expected = interpolate(
        torch.from_numpy(blurred), (CLIP_SIDE, CLIP_SIDE), mode="bicubic", align_corners=True
    )
    assert error(denormalized(clip_preprocess(image)), expected) < 2e-4


def denormalized(pixels: Tensor) -> Tensor:
    mean, std = torch.tensor(CLIP_MEAN)[:, None, None], torch.tensor(CLIP_STD)[:, None, None]
    return (pixels * std + mean) * 2 - 1


SMALL = ConvImageEncoderConfig(16, (32, 64), 12)


def test_images_of_any_size_give_tokens_of_one_width():
    encoder = ConvImageEncoder(SMALL)
    for side in (8, 16, 40):
        assert encoder(torch.rand(3, 3, side, side)).shape == (3, 12)


def test_a_larger_copy_of_an_image_has_about_its_token():
    encoder, image = ConvImageEncoder(SMALL), torch.rand(1, 3, 16, 16)
    larger = image.repeat_interleave(4, 2).repeat_interleave(4, 3)
    similar = (encoder(larger) - encoder(image)).norm()
    assert similar < 0.5 * (encoder(torch.rand(1, 3, 16, 16)) - encoder(image)).norm()


@pytest.mark.parametrize("wrong", [{"widths": (20,)}, {"side": 10}])
def test_sizes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(InputError):
        ConvImageEncoderConfig(**{"side": 16, "widths": (32, 32), **wrong})
