"""The network of `lift`: the layers along the rays of one view, from its images.

    image, mask, coordinates  ─▶ 64² ─▶ 32² ─▶ 16² ─▶  8²  ──▶ yaw
                                  │      │      │       │
    depths, gap, colors ◀─ 128² ◀─ 64² ◀─ 32² ◀─ 16² ◀──┘

A U-Net with convolutions at its two highest resolutions and transformer blocks below. A pretrained
image encoder can supply more features there. The direction that the object faces, its yaw, is
predicted and can be given: the other predictions then agree on one direction, instead of on the
mean of all possible ones.

Letters: B images, S pixels on a side, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generation.lift.encoder import ImageEncoder
from generation.models.transformer import attend
from recon.errors import InputError

INPUT_CHANNELS = 14  # see `network_input`
FEATURES = 40, 112  # channels of the encoder's features at S/8 and S/16
HEAD_CHANNELS = 64  # at the full resolution
YAW_BINS = 16
CONDITION_WIDTH = 128


@dataclass(frozen=True)
class LiftConfig:
    """Architecture of the network.

    Attributes:
        size: side of the images in pixels, S, a multiple of 16.
        widths: channels at S/2, S/4, S/8 and S/16.
        down_blocks: blocks at S/2, S/4 and S/8 on the way down.
        middle_blocks: blocks at S/16.
        up_blocks: blocks at S/2, S/4 and S/8 on the way up.
        heads: attention heads.
        encoder: whether the features of the pretrained image encoder are used.

    Raises:
        InputError: a number is out of range.
    """

    size: int = 128
    widths: tuple[int, ...] = (64, 128, 224, 256)
    down_blocks: tuple[int, ...] = (0, 1, 1)
    middle_blocks: int = 3
    up_blocks: tuple[int, ...] = (1, 2, 2)
    heads: int = 4
    encoder: bool = True

    def __post_init__(self):
        if self.size < 16 or self.size % 16:
            raise InputError(f"expected a size that is a multiple of 16, found {self.size}")
        if any(width % 32 for width in self.widths):
            raise InputError(f"expected widths that are multiples of 32, found {self.widths}")


class LiftPrediction(NamedTuple):
    """Predicted layers.

    Attributes:
        depth: depths of the four layers minus the camera's distance, ascending, [B, 4, S, S].
        gap: logit of whether the ray meets two parts, [B, S, S].
        color: sRGB colors in [0, 1] of first exit, last entry and back, [B, 3, 3, S, S].
        yaw: logits of the yaw's bins, [B, YAW_BINS].
    """

    depth: Tensor
    gap: Tensor
    color: Tensor
    yaw: Tensor


class LiftNetwork(nn.Module):
    """The network.

    Args:
        config: architecture.
        encoder: pretrained image encoder, if the configuration uses one.
    """

    def __init__(self, config: LiftConfig, encoder: nn.Module | None = None):
        super().__init__()
        self.config, self.encoder = config, encoder
        first, second, third, fourth = config.widths
        down, up, heads, side = (
            config.down_blocks,
            config.up_blocks,
            config.heads,
            config.size // 16,
        )
        self.condition = nn.Sequential(
            nn.Linear(7, CONDITION_WIDTH), nn.SiLU(),
            nn.Linear(CONDITION_WIDTH, CONDITION_WIDTH), nn.SiLU(),
        )  # fmt: skip
        self.stem = nn.Conv2d(INPUT_CHANNELS, first, 4, 2, 1)
        self.down1 = _stack(_Residual, down[0], first)
        self.to2 = nn.Conv2d(first, second, 2, 2)
        self.down2 = _stack(_Residual, down[1], second)
        self.to3 = nn.Conv2d(second, third, 2, 2)
        self.position3 = nn.Parameter(torch.zeros(third, 2 * side, 2 * side))
        self.down3 = _stack(_Transformer, down[2], third, heads)
        self.to4 = nn.Conv2d(third, fourth, 2, 2)
        self.position4 = nn.Parameter(torch.zeros(fourth, side, side))
        self.middle = _stack(_Transformer, config.middle_blocks, fourth, heads)
        self.yaw = nn.Sequential(nn.LayerNorm(fourth), nn.Linear(fourth, YAW_BINS))
        self.from4 = nn.Conv2d(fourth, 4 * third, 1)
        self.up3 = _stack(_Transformer, up[2], third, heads)
        self.from3 = nn.Conv2d(third, 4 * second, 1)
        self.up2 = _stack(_Residual, up[1], second)
        self.from2 = nn.Conv2d(second, 4 * first, 1)
        self.up1 = _stack(_Residual, up[0], first)
        self.head = _Head(first)
        if config.encoder:
            self.features3 = nn.Conv2d(FEATURES[0], third, 1)
            self.features4 = nn.Conv2d(FEATURES[1], fourth, 1)

    def forward(
        self,
        image: Tensor,
        elevation: Tensor,
        yaw: Tensor | None = None,
        phase: tuple[int, int] | None = None,
    ) -> LiftPrediction:
        """Predict the layers.

        Args:
            image: premultiplied sRGB and alpha in [0, 1], [B, 4, S, S].
            elevation: elevation of the camera in radians, [B].
            yaw: yaw in radians, NaN where it is unknown, [B]; None: unknown everywhere.
            phase: first row and column, 0 or 1, to predict only every second pixel, which is
                faster; None: all pixels.
        """
        known = _condition(elevation, yaw).to(image.dtype)
        condition = self.condition(known)
        x1 = _apply(self.down1, self.stem(network_input(image, known)), condition)
        x2 = _apply(self.down2, self.to2(x1), condition)
        x3, x4 = self.to3(x2) + self.position3, self.position4
        if self.encoder is not None:
            features = self.encoder(image)
            x3, x4 = x3 + self.features3(features[0]), x4 + self.features4(features[1])
        x3 = _apply(self.down3, x3, condition)
        x4 = _apply(self.middle, self.to4(x3) + x4, condition)
        x = x3 + F.pixel_shuffle(self.from4(x4), 2)
        x = x2 + F.pixel_shuffle(self.from3(_apply(self.up3, x, condition)), 2)
        x = x1 + F.pixel_shuffle(self.from2(_apply(self.up2, x, condition)), 2)
        x = self.head(_apply(self.up1, x, condition), phase)
        yaw_logits = self.yaw(x4.flatten(2).transpose(1, 2)).float().mean(1)
        return _prediction(x.float(), every_second(image, phase).float(), yaw_logits)


def build_network(config: LiftConfig) -> LiftNetwork:
    """Build the network with its image encoder, if the configuration uses one."""
    return LiftNetwork(config, ImageEncoder() if config.encoder else None)


def every_second(x: Tensor, phase: tuple[int, int] | None) -> Tensor:
    """Return every second row and column of [..., S, S] from a phase on; None: all of them."""
    return x if phase is None else x[..., phase[0] :: 2, phase[1] :: 2]


OUTPUT_CHANNELS = 1 + 1 + 3 + 1 + 3 * 4
_GROUPS = 8


def _prediction(x: Tensor, image: Tensor, yaw: Tensor) -> LiftPrediction:
    front, thickness, shares, gap, colors, keep = x.split([1, 1, 3, 1, 9, 3], 1)
    thickness = F.softplus(thickness - 1.0)
    shares = torch.softmax(shares, 1)
    exit_, entry = front + thickness * shares[:, :1], front + thickness * (1 - shares[:, 2:])
    keep = torch.sigmoid(keep)[:, :, None]
    colors = keep * image[:, None, :3] + (1 - keep) * torch.sigmoid(colors).unflatten(1, (3, 3))
    depth = torch.cat([front, exit_, entry, front + thickness], 1)
    return LiftPrediction(depth, gap[:, 0], colors, yaw)


def network_input(image: Tensor, known: Tensor) -> Tensor:
    """Return the channels that the network sees, [B, INPUT_CHANNELS, S, S].

    They are premultiplied color, alpha, two blurred alphas, the coordinates, and the horizontal
    coordinate times the sines and cosines of the yaw: the slope of a long body is near to these.

    Args:
        image: premultiplied sRGB and alpha in [0, 1], [B, 4, S, S].
        known: what is known of camera and yaw, see `_condition`, [B, 7].
    """
    S = image.shape[-1]
    alpha = image[:, 3:]
    near, far = _enlarged(_blurred(alpha, 4, 3), 4), _enlarged(_blurred(alpha, 8, 5), 8)
    line = torch.linspace(-1, 1, S, dtype=image.dtype, device=image.device)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    places = torch.stack([columns, rows]).expand(len(image), -1, -1, -1)
    slopes = known[:, :4, None, None] * columns
    return torch.cat([image, near, far, places, slopes, slopes[:, :2] * alpha], 1)


def _blurred(alpha: Tensor, factor: int, kernel: int) -> Tensor:
    return F.avg_pool2d(F.avg_pool2d(alpha, factor), kernel, 1, kernel // 2)


def _enlarged(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def _condition(elevation: Tensor, yaw: Tensor | None) -> Tensor:
    angle = torch.full_like(elevation, math.nan) if yaw is None else yaw
    known = ~torch.isnan(angle)
    angle = torch.where(known, angle, 0)
    waves = [angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos()]
    columns = [wave * known for wave in waves]
    return torch.stack([*columns, known.float(), elevation.sin(), elevation.cos()], 1)


def _stack(block: type[nn.Module], count: int, *arguments: int) -> nn.ModuleList:
    return nn.ModuleList(block(*arguments) for _ in range(count))


def _apply(blocks: nn.ModuleList, x: Tensor, condition: Tensor) -> Tensor:
    for block in blocks:
        x = block(x, condition)
    return x


def _make_zero(*parameters: Tensor | None) -> None:
    for parameter in parameters:
        assert parameter is not None
        nn.init.zeros_(parameter)


class _Head(nn.Module):
    """Features of half the resolution to the outputs of all pixels, or of every second one."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, width)
        self.features = nn.Conv2d(width, 4 * HEAD_CHANNELS, 3, padding=1)
        self.outputs = nn.Conv2d(HEAD_CHANNELS, OUTPUT_CHANNELS, 1)
        nn.init.normal_(self.outputs.weight, std=0.01)
        _make_zero(self.outputs.bias)

    def forward(self, x: Tensor, phase: tuple[int, int] | None) -> Tensor:
        x = F.silu(self.norm(x))
        if phase is None:
            return self.outputs(F.silu(F.pixel_shuffle(self.features(x), 2)))
        first = 2 * phase[0] + phase[1]  # of the channels that `pixel_shuffle` puts there
        weight, bias = self.features.weight[first::4], self.features.bias
        assert bias is not None
        return self.outputs(F.silu(F.conv2d(x, weight, bias[first::4], padding=1)))


class _Residual(nn.Module):
    """Two convolutions; the condition shifts and scales the features between them."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(CONDITION_WIDTH, 2 * width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        _make_zero(*self.modulation.parameters(), *self.second.parameters())

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, 1)
        hidden = self.first(F.silu(self.norm(x)))
        return x + self.second(F.silu(hidden * (1 + scale) + shift))


class _Transformer(nn.Module):
    """Self-attention and a feed-forward network, modulated by the condition."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.modulation = nn.Linear(CONDITION_WIDTH, 2 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        for last in (self.modulation, self.out, self.feed[2]):
            _make_zero(*last.parameters())

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        scale, shift = self.modulation(condition)[:, None].chunk(2, 2)
        normed = self.norm1(tokens) * (1 + scale) + shift
        q, k, v = self.qkv(normed).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = attend(q, k, v)
        tokens = tokens + self.out(attended.transpose(1, 2).flatten(2))
        tokens = tokens + self.feed(self.norm2(tokens))
        return tokens.transpose(1, 2).unflatten(2, x.shape[-2:])
