"""Encoder and decoder of the published VAE: diffusers' modules under the published names.

    image [N, 3, H, W] in [−1, 1] ──encode──▶ latent [N, 4, H/8, W/8] ──decode──▶ image

The published networks are conditioned on the unscaled mode of the posterior, and denoise latents
that are multiplied by `SCALE_FACTOR`. Their decoder has no `post_quant_conv`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SCALE_FACTOR = 0.18215
LATENT_CHANNELS = 4
LATENT_SIDE = 8  # image pixels per latent pixel, along each axis

_BOTH = (  # published name → diffusers' name, in the order in which they are applied
    (r"\bmid\.block_(\d)", lambda m: f"mid_block.resnets.{int(m[1]) - 1}"),
    (r"\bmid\.attn_1\.norm\b", "mid_block.attentions.0.group_norm"),
    (r"\bmid\.attn_1\.proj_out\b", "mid_block.attentions.0.to_out.0"),
    (r"\bmid\.attn_1\.([qkv])\b", r"mid_block.attentions.0.to_\1"),
    (r"\bnin_shortcut\b", "conv_shortcut"),
    (r"\bnorm_out\b", "conv_norm_out"),
    (r"\bdown\.(\d)\.block\.(\d)", r"down_blocks.\1.resnets.\2"),
    (r"\bdown\.(\d)\.downsample\b", r"down_blocks.\1.downsamplers.0"),
)


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of the VAE; the defaults are the published ones.

    Attributes:
        channels: channels of the first level.
        channel_mult: channels of each level as multiples of `channels`.
        num_res_blocks: residual blocks per level of the encoder; the decoder has one more.
    """

    channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.channels * multiple for multiple in self.channel_mult)


class VAEEncoder(nn.Module):
    """VAE encoder from images to unscaled latents, the mode of the posterior."""

    def __init__(self, config: VAEConfig):
        from diffusers.models.autoencoders.vae import Encoder  # seconds that lift need not wait

        super().__init__()
        self.encoder = Encoder(
            out_channels=LATENT_CHANNELS,
            down_block_types=("DownEncoderBlock2D",) * len(config.widths),
            block_out_channels=config.widths,
            layers_per_block=config.num_res_blocks,
        )
        self.quant_conv = nn.Conv2d(2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map [N, 3, H, W] in [−1, 1] to [N, 4, H/8, W/8]."""
        moments = self.quant_conv(self.encoder(images.to(self.quant_conv.weight.dtype)))
        return moments[:, :LATENT_CHANNELS]


class VAEDecoder(nn.Module):
    """VAE decoder from scaled latents to images."""

    def __init__(self, config: VAEConfig):
        from diffusers.models.autoencoders.vae import Decoder

        super().__init__()
        self.decoder = Decoder(
            in_channels=LATENT_CHANNELS,
            up_block_types=("UpDecoderBlock2D",) * len(config.widths),
            block_out_channels=config.widths,
            layers_per_block=config.num_res_blocks,
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Map [N, 4, h, w] to [N, 3, 8h, 8w], approximately in [−1, 1]."""
        return self.decoder((latents / SCALE_FACTOR).to(self.decoder.conv_in.weight.dtype))


def encoder_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a published encoder's state dict to that of `VAEEncoder`.

    Args:
        published: tensors `encoder.*` and `quant_conv.*`; others are ignored.
    """
    parts = ("encoder.", "quant_conv.")
    return {
        _renamed(key, _BOTH): _linear(key, tensor)
        for key, tensor in published.items()
        if key.startswith(parts)
    }


def decoder_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a published decoder's state dict, `decoder.*`, to that of `VAEDecoder`.

    Published decoders number their levels from fine to coarse, diffusers from coarse to fine.
    """
    levels = 1 + max(
        int(found[1]) for key in published if (found := re.search(r"\bup\.(\d)\.", key))
    )
    up = (
        (
            r"\bup\.(\d)\.block\.(\d)",
            lambda m: f"up_blocks.{levels - 1 - int(m[1])}.resnets.{m[2]}",
        ),
        (r"\bup\.(\d)\.upsample\b", lambda m: f"up_blocks.{levels - 1 - int(m[1])}.upsamplers.0"),
    )
    return {_renamed(key, (*_BOTH, *up)): _linear(key, tensor) for key, tensor in published.items()}


def _renamed(key: str, rules: tuple) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _linear(key: str, tensor: Tensor) -> Tensor:
    """Convert the attention's 1×1 convolutions to diffusers' linear layers."""
    return tensor[:, :, 0, 0] if ".attn_1." in key and tensor.ndim == 4 else tensor


def to_uint8(images: Tensor) -> Tensor:
    """Convert images in [−1, 1] of any shape to uint8."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def encode_in_chunks(encoder: nn.Module, images: Tensor, chunk: int) -> Tensor:
    """Encode images [N, 3, H, W], at most `chunk` per call, to float32 latents."""
    return torch.cat([encoder(piece).float() for piece in images.split(chunk)])


def decode_in_chunks(decoder: nn.Module, latents: Tensor, chunk: int) -> Tensor:
    """Decode latents [N, C, h, w], at most `chunk` per call, to float32 images."""
    return torch.cat([decoder(piece).float() for piece in latents.split(chunk)])
