"""A small image autoencoder that works on patches: what the published one is to the large networks.

    image ─▶ patches ─▶ linear ───────────────────────────(+)─▶ mean, log σ²
                   └──▶ linear ─▶ residual blocks ─▶ linear ─┘
    latent ─▶ linear ───────────────────────────────(+)─▶ patches ─▶ image
         └──▶ 3 × 3 ─▶ residual blocks ─▶ linear ────┘

All convolutions see one pixel for each patch of p × p, which is what makes it fast. The straight
way begins as the mean colours of a patch's quarters, and the other one as nothing: a fresh network
gives back a small picture of its image, in colour, and learns from there what is missing. A network
that begins with random numbers learns the grey of things long before their colours.

Latents are counted from `white`, the one of an image without anything, once that is known: then
whatever makes them begins with an empty background, which most of an image is. And they are mixed
by a matrix that makes their directions less unequal, because what is brightest is learnt first and
colours last, and as large on average as those of the published autoencoder, because networks are
told them as they are.

Letters: N images, S pixels on a side, p pixels of a patch's side, c channels and s = S / p pixels
of latents. What it does not know: the diffusion in its latents, and their scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pixel_shuffle, pixel_unshuffle, silu

from generation.models.vae import SCALE_FACTOR
from recon.errors import InputError

COLOURS, QUARTERS = 3, 4
FIRST_LOG_VARIANCE = -6.0


@dataclass(frozen=True)
class PatchAutoencoderConfig:
    """Sizes of the network.

    Attributes:
        patch: p, an even number.
        latent_channels: c, at least 12.
        width: channels of the residual blocks.
        encoder_blocks: how many the encoder has.
        decoder_blocks: likewise.
        latent_scale: latents times this have a mean square of 1.

    Raises:
        InputError: a number is out of its range.
    """

    patch: int = 8
    latent_channels: int = 16
    width: int = 160
    encoder_blocks: int = 2
    decoder_blocks: int = 4
    latent_scale: float = SCALE_FACTOR

    def __post_init__(self):
        if self.patch < 2 or self.patch % 2 or self.latent_channels < COLOURS * QUARTERS:
            raise InputError(
                f"expected an even patch and at least {COLOURS * QUARTERS} latent channels, "
                f"found {self.patch} and {self.latent_channels}"
            )
        if min(self.width, self.encoder_blocks, self.decoder_blocks) < 1:
            raise InputError("width and blocks must be at least 1")
        if not 0 < self.latent_scale < math.inf:
            raise InputError(f"expected a latent scale above 0, found {self.latent_scale}")

    @property
    def numbers(self) -> int:
        """In a patch."""
        return COLOURS * self.patch**2


class PatchAutoencoder(nn.Module):
    """Images to latents and back."""

    def __init__(self, config: PatchAutoencoderConfig):
        super().__init__()
        self.config = config
        self.encoder = PatchEncoder(config)
        self.decoder = PatchDecoder(config)


class PatchEncoder(nn.Module):
    """Images to latents, the mode of the posterior."""

    def __init__(self, config: PatchAutoencoderConfig):
        super().__init__()
        self.patch, self.channels = config.patch, config.latent_channels
        self.white, self.mix = white_latent(config), unmixed(config)
        self.straight = nn.Conv2d(config.numbers, self.channels, 1)
        self.first = nn.Conv2d(config.numbers, config.width, 1)
        self.blocks = nn.Sequential(*(Residual(config.width) for _ in range(config.encoder_blocks)))
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
        """[N, 3, S, S] in [−1, 1] to [N, c, s, s]."""
        return along_channels(self.mix, self.posterior(images)[0] - self.white)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and ln σ² of the latents before they are mixed, [N, c, s, s] each."""
        patches = pixel_unshuffle(images, self.patch)
        mean, log_variance = self.last(self.blocks(self.first(patches))).chunk(2, dim=1)
        return self.straight(patches) + mean, FIRST_LOG_VARIANCE + log_variance


class PatchDecoder(nn.Module):
    """Latents to images."""

    def __init__(self, config: PatchAutoencoderConfig):
        super().__init__()
        self.patch = config.patch
        self.white, self.unmix = white_latent(config), unmixed(config)
        self.straight = nn.Conv2d(config.latent_channels, config.numbers, 1)
        self.first = nn.Conv2d(config.latent_channels, config.width, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(config.width) for _ in range(config.decoder_blocks)))
        self.last = nn.Conv2d(config.width, config.numbers, 1)
        with torch.no_grad():
            quarters = quarter_patches(config.patch)
            nn.init.zeros_(self.straight.weight)
            self.straight.weight[:, : len(quarters), 0, 0] = quarters.T
            nn.init.zeros_(self.straight.bias)  # type: ignore[arg-type]
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, latents: Tensor) -> Tensor:
        """[N, c, s, s], not scaled, to [N, 3, S, S], about in [−1, 1]."""
        latents = along_channels(self.unmix, latents) + self.white
        patches = self.straight(latents) + self.last(self.blocks(self.first(latents)))
        return pixel_shuffle(patches, self.patch)


class ScaledDecoder(nn.Module):
    """Decodes latents that are scaled to a mean square of 1, as the diffusion networks have them.

    Args:
        network: the autoencoder; its decoder is shared.
    """

    def __init__(self, network: PatchAutoencoder):
        super().__init__()
        self.decoder, self.scale = network.decoder, network.config.latent_scale

    def forward(self, latents: Tensor) -> Tensor:
        """[N, c, s, s] to [N, 3, S, S]."""
        return self.decoder(latents / self.scale)


class Residual(nn.Module):
    """Two convolutions that begin as nothing."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, width, s, s] to the same shape."""
        return x + self.second(silu(self.first(silu(x))))


def white_latent(config: PatchAutoencoderConfig) -> nn.Buffer:
    """Where latents are counted from: 0 until it is known, [c, 1, 1]."""
    return nn.Buffer(torch.zeros(config.latent_channels, 1, 1))


def unmixed(config: PatchAutoencoderConfig) -> nn.Buffer:
    """A mixing that leaves latents as they are, until a better one is known, [c, c]."""
    return nn.Buffer(torch.eye(config.latent_channels))


def along_channels(matrix: Tensor, latents: Tensor) -> Tensor:
    """The product of [c, c] with the numbers of each pixel of [N, c, s, s]."""
    return conv2d(latents, matrix[:, :, None, None])


def quarter_patches(patch: int) -> Tensor:
    """Which numbers of a patch, as `pixel_unshuffle` lists them, are of each quarter and colour.

    Returns:
        1 or 0, [12, 3 · patch²].
    """
    half = torch.arange(patch) // (patch // 2)
    quarter = (2 * half[:, None] + half).flatten()
    inside = torch.eye(QUARTERS)[quarter].T  # [quarters, patch²]
    return torch.einsum("ck,qn->cqkn", torch.eye(COLOURS), inside).reshape(COLOURS * QUARTERS, -1)
