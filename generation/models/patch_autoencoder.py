"""Small image autoencoder on patches, which `mini` uses instead of the published VAE.

    image ─▶ patches ─▶ linear ───────────────────────────(+)─▶ mean, log σ²
                   └──▶ linear ─▶ residual blocks ─▶ linear ─┘
    latent ─▶ linear ───────────────────────────────(+)─▶ patches ─▶ image
         └──▶ 3 × 3 ─▶ residual blocks ─▶ linear ────┘

All convolutions run at one pixel per patch of p × p, which makes it fast. The linear shortcuts are
initialized to the mean colors of a patch's quarters and the residual paths to zero, so an untrained
network reproduces a downscaled image of its input and learns the details. A randomly initialized
one learns gray values long before colors.

Once training is finished, latents are shifted so that an empty white image has latent 0 (most of an
image is empty, so the diffusion starts from an empty background). They are also mixed by a matrix
that reduces the differences in variance between their principal directions, because a diffusion
model learns the directions of large variance (brightness) first and colors last. Their root mean
square is that of the published VAE's latents, because networks are conditioned on them unscaled.

Letters: N images, S pixels on a side, p pixels of a patch's side, c channels and s = S / p pixels
of latents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pixel_shuffle, pixel_unshuffle, silu

from generation.models.vae import SCALE_FACTOR
from recon.errors import InputError

COLORS, QUARTERS = 3, 4
FIRST_LOG_VARIANCE = -6.0


@dataclass(frozen=True)
class PatchAutoencoderConfig:
    """Sizes of the network.

    Attributes:
        patch: p, an even number.
        latent_channels: c, at least 12.
        width: channels of the residual blocks.
        encoder_blocks: residual blocks of the encoder.
        decoder_blocks: residual blocks of the decoder.
        latent_scale: factor that gives latents a mean square of 1.

    Raises:
        InputError: a number is out of range.
    """

    patch: int = 8
    latent_channels: int = 16
    width: int = 160
    encoder_blocks: int = 2
    decoder_blocks: int = 4
    latent_scale: float = SCALE_FACTOR

    def __post_init__(self):
        if self.patch < 2 or self.patch % 2 or self.latent_channels < COLORS * QUARTERS:
            raise InputError(
                f"expected an even patch and at least {COLORS * QUARTERS} latent channels, "
                f"found {self.patch} and {self.latent_channels}"
            )
        if min(self.width, self.encoder_blocks, self.decoder_blocks) < 1:
            raise InputError(
                "expected width, encoder_blocks and decoder_blocks of at least 1, found "
                f"{self.width}, {self.encoder_blocks} and {self.decoder_blocks}"
            )
        if not 0 < self.latent_scale < math.inf:
            raise InputError(f"expected a latent scale above 0, found {self.latent_scale}")

    @property
    def patch_values(self) -> int:
        """Number of values in a patch, 3 · p²."""
        return COLORS * self.patch**2


class PatchAutoencoder(nn.Module):
    """Autoencoder: encoder and decoder, trained together."""

    def __init__(self, config: PatchAutoencoderConfig):
        super().__init__()
        self.config = config
        self.encoder = PatchEncoder(config)
        self.decoder = PatchDecoder(config)


class PatchEncoder(nn.Module):
    """Encoder from images to unscaled latents, the mode of the posterior."""

    def __init__(self, config: PatchAutoencoderConfig):
        super().__init__()
        self.patch, self.channels = config.patch, config.latent_channels
        self.white, self.mix = white_latent(config), identity_mixing(config)
        self.straight = nn.Conv2d(config.patch_values, self.channels, 1)
        self.first = nn.Conv2d(config.patch_values, config.width, 1)
        self.blocks = nn.Sequential(
            *(ResidualBlock(config.width) for _ in range(config.encoder_blocks))
        )
        self.last = nn.Conv2d(config.width, 2 * self.channels, 1)
        with torch.no_grad():
            quarters = quarter_patches(config.patch)
            self.straight.weight[: len(quarters), :, 0, 0] = quarters / quarters.sum(
                1, keepdim=True
            )
            nn.init.zeros_(self.straight.bias)  # type: ignore[arg-type]
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Map [N, 3, S, S] in [−1, 1] to [N, c, s, s]."""
        return mix_channels(self.mix, self.posterior(images)[0] - self.white)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mean and ln σ² of the latents before shift and mixing, [N, c, s, s] each."""
        patches = pixel_unshuffle(images, self.patch)
        mean, log_variance = self.last(self.blocks(self.first(patches))).chunk(2, dim=1)
        return self.straight(patches) + mean, FIRST_LOG_VARIANCE + log_variance


class PatchDecoder(nn.Module):
    """Decoder from unscaled latents to images."""

    def __init__(self, config: PatchAutoencoderConfig):
        super().__init__()
        self.patch = config.patch
        self.white, self.unmix = white_latent(config), identity_mixing(config)
        self.straight = nn.Conv2d(config.latent_channels, config.patch_values, 1)
        self.first = nn.Conv2d(config.latent_channels, config.width, 3, padding=1)
        self.blocks = nn.Sequential(
            *(ResidualBlock(config.width) for _ in range(config.decoder_blocks))
        )
        self.last = nn.Conv2d(config.width, config.patch_values, 1)
        with torch.no_grad():
            quarters = quarter_patches(config.patch)
            nn.init.zeros_(self.straight.weight)
            self.straight.weight[:, : len(quarters), 0, 0] = quarters.T
            nn.init.zeros_(self.straight.bias)  # type: ignore[arg-type]
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, latents: Tensor) -> Tensor:
        """Map [N, c, s, s] to [N, 3, S, S], approximately in [−1, 1]."""
        latents = mix_channels(self.unmix, latents) + self.white
        patches = self.straight(latents) + self.last(self.blocks(self.first(latents)))
        return pixel_shuffle(patches, self.patch)


class ScaledDecoder(nn.Module):
    """Decoder from latents scaled to a mean square of 1, which the diffusion networks denoise.

    Args:
        network: the autoencoder; its decoder is shared.
    """

    def __init__(self, network: PatchAutoencoder):
        super().__init__()
        self.decoder, self.scale = network.decoder, network.config.latent_scale

    def forward(self, latents: Tensor) -> Tensor:
        """Map [N, c, s, s] to [N, 3, S, S]."""
        return self.decoder(latents / self.scale)


class ResidualBlock(nn.Module):
    """Two convolutions with a residual connection, initialized to the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, width, s, s] to the same shape."""
        return x + self.second(silu(self.first(silu(x))))


def white_latent(config: PatchAutoencoderConfig) -> nn.Buffer:
    """Make the buffer for the latent of a white image, 0 until training is finished, [c, 1, 1]."""
    return nn.Buffer(torch.zeros(config.latent_channels, 1, 1))


def identity_mixing(config: PatchAutoencoderConfig) -> nn.Buffer:
    """Make the buffer for the mixing matrix, the identity until training is finished, [c, c]."""
    return nn.Buffer(torch.eye(config.latent_channels))


def mix_channels(matrix: Tensor, latents: Tensor) -> Tensor:
    """Multiply each pixel of [N, c, s, s] by a matrix [c, c]."""
    return conv2d(latents, matrix[:, :, None, None])


def quarter_patches(patch: int) -> Tensor:
    """Compute a mask for each quarter and color of a patch, flattened like `pixel_unshuffle`'s.

    Returns:
        0 or 1, [12, 3 · patch²].
    """
    half = torch.arange(patch) // (patch // 2)
    quarter = (2 * half[:, None] + half).flatten()
    inside = torch.eye(QUARTERS)[quarter].T  # [quarters, patch²]
    return torch.einsum("ck,qn->cqkn", torch.eye(COLORS), inside).reshape(COLORS * QUARTERS, -1)
