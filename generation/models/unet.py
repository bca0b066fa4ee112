"""The UNet that SV3D and SV4D share; they differ in the layers that mix frames.

    x ─▶ input blocks ──▶ middle block ─▶ output blocks ─▶ out
           │ + input_i      │ + middle_0      │ + output_i
           └────── skips, + skip_i ───────────┘

Residuals can be added to the features at the points marked +, as ControlNet does
(`FeatureResiduals`).
`input_i` continues through the encoder and into the skip connection; `skip_i` reaches the decoder
only. The index i is that of the block that computes the feature.

Letters: N frames of all batch items, C channels, h × w latent pixels, E width of the embedding;
level l has 1/2ˡ of the latent's height and width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from generation.models.layers import Chunk, GroupNorm, embedding_mlp, sinusoidal_embedding

EMBEDDING_EXPANSION = 4


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a UNet; the defaults are those of the published networks.

    Attributes:
        in_channels: channels of the noisy latent and the concatenated conditioning latent.
        out_channels: channels of the prediction.
        model_channels: channels of the first level.
        channel_mult: channels of each level as multiples of `model_channels`.
        num_res_blocks: residual blocks per level of the encoder; the decoder has one more.
        attention_resolutions: downsampling factors of the levels that have transformers.
        num_head_channels: d, channels of an attention head.
        context_dim: width of the image encoder's token.
        adm_in_channels: width of the vector conditioning.
    """

    in_channels: int = 8
    out_channels: int = 4
    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (1, 2, 4)
    num_head_channels: int = 64
    context_dim: int = 1024
    adm_in_channels: int = 1280

    @property
    def embedding(self) -> int:
        """E, the width of the embedding of noise level and vector conditioning."""
        return EMBEDDING_EXPANSION * self.model_channels

    @property
    def downsampling(self) -> int:
        """The number by which h and w must be divisible."""
        return 2 ** (len(self.channel_mult) - 1)


Conditions = TypeVar("Conditions")
Config = TypeVar("Config", bound=UNetConfig)

FeatureResiduals = Callable[[Tensor, Any], Mapping[str, Tensor]]
"""Function that computes residuals to add to a UNet's features, by name of the feature point.

It is called once per network call, with the UNet's input and its layers' conditioning.
"""


@dataclass(frozen=True)
class FeaturePoint:
    """A feature of the UNet to which a residual can be added.

    Attributes:
        part: "input", "skip", "middle" or "output".
        index: index of the block that computes the feature.
        channels: number of channels C.
        level: level l of the UNet, 0 for the finest.
    """

    part: str
    index: int
    channels: int
    level: int

    @property
    def name(self) -> str:
        """Key of the residual, e.g. "skip_3"."""
        return f"{self.part}_{self.index}"


def input_points(config: UNetConfig) -> list[FeaturePoint]:
    """Return the features of the encoder; each of them is also a skip connection."""
    first, last_level = config.model_channels, len(config.channel_mult) - 1
    sizes = [(first, 0)]
    for level, multiple in enumerate(config.channel_mult):
        sizes += [(multiple * first, level)] * config.num_res_blocks
        if level < last_level:
            sizes.append((multiple * first, level + 1))
    return [FeaturePoint("input", index, *size) for index, size in enumerate(sizes)]


def skip_points(config: UNetConfig) -> list[FeaturePoint]:
    """Return the encoder's features at the skip connections, where the decoder reads them."""
    return [replace(point, part="skip") for point in input_points(config)]


def middle_point(config: UNetConfig) -> FeaturePoint:
    """Return the feature of the middle block."""
    return replace(input_points(config)[-1], part="middle", index=0)


def upsampled_points(config: UNetConfig) -> list[FeaturePoint]:
    """Return the upsampled feature at the start of each level of the decoder except the deepest."""
    blocks, levels = config.num_res_blocks + 1, len(config.channel_mult)
    return [
        FeaturePoint(
            "output",
            (levels - level) * blocks - 1,
            config.channel_mult[level] * config.model_channels,
            level - 1,
        )
        for level in range(levels - 1, 0, -1)
    ]


def add_residual(x: Tensor, residual: Tensor | None) -> Tensor:
    """Add a residual to a feature.

    Args:
        x: [N, C, h, w].
        residual: [N, C, h, w]; or [N / r, C, h, w], which is repeated for r equal parts of the
            batch, such as the two halves of classifier-free guidance; or None.
    """
    if residual is None:
        return x
    return (x.unflatten(0, (-1, len(residual))) + residual.to(x.dtype)).flatten(0, 1)


class ConditionedLayer(nn.Module, ABC, Generic[Conditions]):
    """A layer that takes features and conditioning."""

    @abstractmethod
    def forward(self, x: Tensor, conditions: Conditions) -> Tensor:
        """Map [N, C_in, h, w] to [N, C, h, w]."""


class Downsample(nn.Module):
    """Halve height and width with a strided convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, h, w] to [N, C, h/2, w/2]."""
        return self.op(x)


class Upsample(nn.Module):
    """Double height and width by nearest-neighbor interpolation and a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, h, w] to [N, C, 2h, 2w]."""
        return self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module, ABC, Generic[Config, Conditions]):
    """Encoder, middle block and decoder; subclasses define residual blocks and transformers.

    Attributes:
        config: sizes of the network.
        gradient_checkpointing: whether the backward pass recomputes the features inside of blocks
            instead of storing them.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        first, embedding = config.model_channels, config.embedding
        self.time_embed = embedding_mlp(first, embedding, embedding)
        self.label_emb = nn.Sequential(embedding_mlp(config.adm_in_channels, embedding, embedding))
        self.input_blocks = nn.ModuleList(
            [nn.ModuleList([nn.Conv2d(config.in_channels, first, 3, padding=1)])]
        )
        channels, skips = first, [first]
        last_level = len(config.channel_mult) - 1
        for level, multiple in enumerate(config.channel_mult):
            for _ in range(config.num_res_blocks):
                self.input_blocks.append(self._block_layers(channels, multiple * first, level))
                channels = multiple * first
                skips.append(channels)
            if level < last_level:
                self.input_blocks.append(nn.ModuleList([Downsample(channels)]))
                skips.append(channels)
        self.middle_block = nn.ModuleList(
            [
                self._residual(channels, channels),
                self._transformer(channels),
                self._residual(channels, channels),
            ]
        )
        self.output_blocks = nn.ModuleList()
        for level, multiple in reversed(list(enumerate(config.channel_mult))):
            for index in range(config.num_res_blocks + 1):
                layers = self._block_layers(channels + skips.pop(), multiple * first, level)
                channels = multiple * first
                if level > 0 and index == config.num_res_blocks:
                    layers.append(Upsample(channels))
                self.output_blocks.append(layers)
        self.out = nn.Sequential(
            GroupNorm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, config.out_channels, 3, padding=1),
        )

    @abstractmethod
    def _residual(self, channels_in: int, channels: int) -> ConditionedLayer[Conditions]:
        """Build a residual block of this network."""

    @abstractmethod
    def _transformer(self, channels: int) -> ConditionedLayer[Conditions]:
        """Build a transformer of this network."""

    def _block_layers(self, channels_in: int, channels: int, level: int) -> nn.ModuleList:
        layers: list[nn.Module] = [self._residual(channels_in, channels)]
        if 2**level in self.config.attention_resolutions:
            layers.append(self._transformer(channels))
        return nn.ModuleList(layers)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the parameters and the features."""
        return next(self.parameters()).dtype

    def to_channels_last(self) -> None:
        """Store the convolutions' weights in the memory format of the features, for CUDA."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                weight = module.weight.data
                module.weight.data = weight.contiguous(memory_format=torch.channels_last)

    def limit_memory(self, tokens: int | None) -> None:
        """Limit the number of tokens or pixels per call of a layer, where results do not change.

        Args:
            tokens: the limit, which a layer exceeds if it needs a whole sequence or frame; None
                for the fastest.
        """
        for module in self.modules():
            chunk = getattr(module, "chunk", None)
            if isinstance(chunk, Chunk):
                chunk.tokens = tokens

    def _embed(self, noise: Tensor, vector: Tensor) -> Tensor:
        """Embed noise levels [N] and vector conditioning [N, adm_in_channels] as [N, E]."""
        level = sinusoidal_embedding(noise, self.config.model_channels).to(self.dtype)
        return self.time_embed(level) + self.label_emb(vector.to(self.dtype))

    def _run(
        self, x: Tensor, conditions: Conditions, feature_residuals: FeatureResiduals | None = None
    ) -> Tensor:
        """Map [N, in_channels, h, w] to [N, out_channels, h, w]."""
        h = x.to(self.dtype, memory_format=torch.channels_last)
        residuals = {} if feature_residuals is None else feature_residuals(h, conditions)
        skips: list[Tensor] = []
        for index, block in enumerate(self.input_blocks):
            h = add_residual(self._block(block, h, conditions), residuals.get(f"input_{index}"))
            skips.append(h)
        h = add_residual(self._block(self.middle_block, h, conditions), residuals.get("middle_0"))
        for index, block in enumerate(self.output_blocks):
            skip = add_residual(skips.pop(), residuals.get(f"skip_{len(skips)}"))
            h = self._block(block, torch.cat([h, skip], dim=1), conditions)
            h = add_residual(h, residuals.get(f"output_{index}"))
        return self.out(h)

    def _block(self, block: nn.Module, x: Tensor, conditions: Conditions) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(run_block, block, x, conditions, use_reentrant=False)  # type: ignore[return-value]
        return run_block(block, x, conditions)


def run_block(block: nn.Module, x: Tensor, conditions: Any) -> Tensor:
    """Run the layers of one block; only some of them take the conditioning."""
    for layer in _layers(block):
        x = layer(x, conditions) if isinstance(layer, ConditionedLayer) else layer(x)
    return x


def _layers(block: nn.Module) -> Iterator[nn.Module]:
    assert isinstance(block, nn.ModuleList)
    return iter(block)
