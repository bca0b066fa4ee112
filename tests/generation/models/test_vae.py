"""Encoder and decoder of the VAE, and the conversion of published names to diffusers'."""

import pytest
import torch
from torch import Tensor

from generation.models.vae import (
    SCALE_FACTOR,
    VAEConfig,
    VAEDecoder,
    VAEEncoder,
    decode_in_chunks,
    decoder_state,
    encode_in_chunks,
    encoder_state,
)
from generation.weights.catalogue import expected_shapes, published
from tests.generation.models.random_weights import error, numbers, with_random_weights

SMALL = VAEConfig(32, (1, 2, 1, 1), 1)
DECODER = "first_stage_model."
ENCODERS = [
    (model.name, f"conditioner.embedders.{number}.encoder.")
    for model in published.values()
    for number in model.conditioning_vaes
]


def published_part(name: str, prefix: str) -> dict[str, Tensor]:
    """Tensors with the published keys and shapes on the meta device."""
    return {
        key.removeprefix(prefix): torch.empty(shape, device="meta")
        for key, shape in expected_shapes(name).items()
        if key.startswith(prefix)
    }


def shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


@pytest.mark.parametrize(("name", "prefix"), ENCODERS)
def test_every_published_tensor_of_an_encoder_is_read_and_every_parameter_is_published(
    name: str, prefix: str
):
    part = published_part(name, prefix)
    read = [key for key in part if key.startswith(("encoder.", "quant_conv."))]
    with torch.device("meta"):
        expected = VAEEncoder(VAEConfig()).state_dict()
    found = encoder_state(part)
    assert shapes(found) == shapes(expected)
    assert len(found) == len(read) < len(part)


@pytest.mark.parametrize("name", published)
def test_every_published_tensor_of_the_decoder_is_read_and_every_parameter_is_published(name: str):
    part = published_part(name, DECODER)
    with torch.device("meta"):
        expected = VAEDecoder(VAEConfig()).state_dict()
    found = decoder_state(part)
    assert shapes(found) == shapes(expected)
    assert len(found) == len(part)


def test_a_published_decoder_numbers_its_levels_from_fine_to_coarse():
    part = {f"decoder.up.{level}.block.0.conv1.bias": torch.tensor(level) for level in range(4)}
    found = {key: int(tensor) for key, tensor in decoder_state(part).items()}
    assert found == {
        f"decoder.up_blocks.{3 - level}.resnets.0.conv1.bias": level for level in range(4)
    }


def test_a_1x1_convolution_of_the_attention_is_the_same_linear_map():
    weight = numbers(6, 6, 1, 1)
    (found,) = encoder_state({"encoder.mid.attn_1.q.weight": weight}).values()
    x = numbers(2, 6, 3, 3)
    expected = torch.nn.functional.conv2d(x, weight).permute(0, 2, 3, 1)
    torch.testing.assert_close(x.permute(0, 2, 3, 1) @ found.T, expected)


def test_an_encoder_gives_the_mode_and_an_eighth_of_the_side():
    encoder, images = with_random_weights(VAEEncoder(SMALL)).eval(), numbers(2, 3, 16, 24)
    found = encoder(images)
    assert found.shape == (2, 4, 2, 3)
    moments = torch.arange(8.0)  # of means, then of log-variances
    bias = encoder.quant_conv.bias
    assert bias is not None
    bias.data += moments
    torch.testing.assert_close(encoder(images), found + moments[:4, None, None])


def test_a_decoder_takes_latents_as_the_diffusion_scales_them():
    decoder, latents = with_random_weights(VAEDecoder(SMALL)).eval(), numbers(2, 4, 2, 3)
    found = decoder(SCALE_FACTOR * latents)
    assert found.shape == (2, 3, 16, 24)
    torch.testing.assert_close(found, decoder.decoder(latents), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 2, 3, 8])
def test_images_in_chunks_are_the_same(chunk: int):
    encoder = with_random_weights(VAEEncoder(SMALL)).eval().double()
    decoder = with_random_weights(VAEDecoder(SMALL)).eval().double()
    images, latents = numbers(3, 3, 8, 16), numbers(3, 4, 1, 2)
    with torch.inference_mode():
        assert error(encode_in_chunks(encoder, images, chunk), encoder(images)) < 1e-6
        assert error(decode_in_chunks(decoder, latents, chunk), decoder(latents)) < 1e-6


def test_an_autoencoder_of_another_type_takes_and_gives_float32():
    encoder = with_random_weights(VAEEncoder(SMALL)).eval().bfloat16()
    decoder = with_random_weights(VAEDecoder(SMALL)).eval().bfloat16()
    with torch.inference_mode():
        latents = encode_in_chunks(encoder, numbers(1, 3, 16, 16), 1)
        images = decode_in_chunks(decoder, latents, 1)
    assert latents.dtype == images.dtype == torch.float32
    assert images.isfinite().all()
