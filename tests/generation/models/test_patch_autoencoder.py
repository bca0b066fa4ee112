"""An untrained patch autoencoder reproduces mean colors, and all of its layers learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import pixel_unshuffle

from generation.models.patch_autoencoder import (
    FIRST_LOG_VARIANCE,
    PatchAutoencoder,
    PatchAutoencoderConfig,
    ResidualBlock,
    quarter_patches,
)
from recon.errors import InputError
from tests.generation.models.random_weights import numbers

SMALL = PatchAutoencoderConfig(4, 14, 6, encoder_blocks=1, decoder_blocks=2)
PATCHES = (2, 4, 6)


def images(count: int = 2, patches: int = 3, patch: int = 4) -> torch.Tensor:
    return numbers(count, 3, patches * patch, patches * patch, seed=1).tanh()


def quarter_means(images: np.ndarray, patch: int) -> np.ndarray:
    """Replace each quarter of each patch by its mean color, [N, 3, S, S]."""
    made, half = np.empty_like(images), patch // 2
    for top in range(0, images.shape[2], half):
        for left in range(0, images.shape[3], half):
            quarter = (..., slice(top, top + half), slice(left, left + half))
            made[quarter] = images[quarter].mean((2, 3), keepdims=True)
    return made


@pytest.mark.parametrize("patch", PATCHES)
def test_an_untrained_network_reproduces_the_mean_colors_of_quarters(patch: int):
    network, given = PatchAutoencoder(replace(SMALL, patch=patch)), images(patch=patch)
    with torch.no_grad():
        found = network.decoder(network.encoder(given))
    np.testing.assert_allclose(found, quarter_means(given.numpy(), patch), atol=1e-6)


def test_an_untrained_network_of_the_smallest_patches_is_lossless():
    network, given = PatchAutoencoder(replace(SMALL, patch=2, latent_channels=12)), images()
    with torch.no_grad():
        assert torch.equal(network.decoder(network.encoder(given)), given)


@pytest.mark.parametrize("patch", PATCHES)
def test_latents_have_one_pixel_for_each_patch_of_any_image(patch: int):
    network = PatchAutoencoder(replace(SMALL, patch=patch))
    for height, width in ((1, 1), (2, 5)):
        latents = network.encoder(numbers(2, 3, height * patch, width * patch))
        assert latents.shape == (2, 14, height, width)
        assert network.decoder(latents).shape == (2, 3, height * patch, width * patch)


def test_the_posterior_is_narrow_at_first_and_its_mode_is_what_is_encoded():
    encoder = PatchAutoencoder(SMALL).encoder
    mean, log_variance = encoder.posterior(images())
    assert torch.equal(mean, encoder(images()))
    assert torch.equal(log_variance, torch.full((2, 14, 3, 3), FIRST_LOG_VARIANCE))


def test_untrained_residual_blocks_are_the_identity():
    x = numbers(2, 6, 3, 5)
    assert torch.equal(ResidualBlock(6)(x), x)


@pytest.mark.parametrize("patch", PATCHES)
def test_quarters_are_numbered_as_pixels_of_a_patch_are_listed(patch: int):
    half, expected = patch // 2, []
    for color in range(3):
        for top in (0, half):
            for left in (0, half):
                image = torch.zeros(1, 3, patch, patch)
                image[0, color, top : top + half, left : left + half] = 1
                expected.append(pixel_unshuffle(image, patch).flatten())
    assert torch.equal(quarter_patches(patch), torch.stack(expected))


def test_within_three_steps_every_layer_has_a_gradient_though_some_begin_as_zero():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = PatchAutoencoder(SMALL)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(3):  # a zeroed layer, those before it, and those before a zeroed one of them
        optimizer.zero_grad()
        mean, log_variance = network.encoder.posterior(images())
        made = network.decoder(mean + (log_variance / 2).exp() * numbers(*mean.shape, seed=2))
        ((made - images()).square().mean() + log_variance.exp().mean()).backward()
        optimizer.step()
    without = [
        name
        for name, each in network.named_parameters()
        if each.grad is None or not each.grad.any()
    ]
    assert without == []


def test_a_few_steps_of_training_recover_what_quarters_lose():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = PatchAutoencoder(replace(SMALL, width=16))
    optimizer, losses = torch.optim.Adam(network.parameters(), 3e-3), []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (network.decoder(network.encoder(images())) - images()).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"patch": 0}, {"patch": -2}, {"patch": 3}, {"latent_channels": 11}, {"width": 0},
        {"encoder_blocks": 0}, {"decoder_blocks": 0},
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, int]):
    with pytest.raises(InputError):
        replace(SMALL, **wrong)


def test_an_image_of_incomplete_patches_is_refused():
    with pytest.raises(RuntimeError):
        PatchAutoencoder(SMALL).encoder(numbers(1, 3, 8, 10))
