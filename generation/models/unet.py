"""The UNet that SV3D and SV4D share: what is different between them is how frames see each other.

    x ─▶ input blocks ──▶ middle block ─▶ output blocks ─▶ out
             └─────── skips ───────────────────┘

Letters: N frames of all batch items, C channels, h × w latent pixels, E width of the embedding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from generation.models.chunks import Chunk
from generation.models.embedding import embedding_mlp, sinusoidal_embedding
from generation.models.injection import Inject, add
from generation.models.normalization import GroupNorm

EMBEDDING_WIDENING = 4


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a UNet; the defaults are those of the published networks.

    Attributes:
        in_channels: of the noisy latent and the concatenated conditioning latent.
        out_channels: of the prediction.
        model_channels: channels of the first level.
        channel_mult: channels of each level as multiples of `model_channels`.
        num_res_blocks: residual blocks of a level on the way down; one more on the way up.
        attention_resolutions: down-sampling factors at which there are transformers.
        num_head_channels: d of the attention.
        context_dim: width of the CLIP token.
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
        """E, the width of the noise level's and the vector's embedding."""
        return EMBEDDING_WIDENING * self.model_channels

    @property
    def downsampling(self) -> int:
        """By which h and w must be divisible."""
        return 2 ** (len(self.channel_mult) - 1)


Conditions = TypeVar("Conditions")
Config = TypeVar("Config", bound=UNetConfig)


class Conditioned(nn.Module, ABC, Generic[Conditions]):
    """A layer that is told the conditions, not only the features."""

    @abstractmethod
    def forward(self, x: Tensor, conditions: Conditions) -> Tensor:
        """Maps [N, C_in, h, w] to [N, C, h, w]."""


class Downsample(nn.Module):
    """Halves height and width."""

    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to [N, C, h/2, w/2]."""
        return self.op(x)


class Upsample(nn.Module):
    """Doubles height and width."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to [N, C, 2h, 2w]."""
        return self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module, ABC, Generic[Config, Conditions]):
    """The skeleton: subclasses say what a residual block and a transformer are.

    Attributes:
        config: its sizes.
        recompute: whether a gradient computes the features inside of blocks again, instead of
            keeping them from the way there.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.recompute = False
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
                self.input_blocks.append(self._stage(channels, multiple * first, level))
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
                stage = self._stage(channels + skips.pop(), multiple * first, level)
                channels = multiple * first
                if level > 0 and index == config.num_res_blocks:
                    stage.append(Upsample(channels))
                self.output_blocks.append(stage)
        self.out = nn.Sequential(
            GroupNorm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, config.out_channels, 3, padding=1),
        )

    @abstractmethod
    def _residual(self, channels_in: int, channels: int) -> Conditioned[Conditions]:
        """A residual block of this network."""

    @abstractmethod
    def _transformer(self, channels: int) -> Conditioned[Conditions]:
        """A transformer of this network."""

    def _stage(self, channels_in: int, channels: int, level: int) -> nn.ModuleList:
        stage: list[nn.Module] = [self._residual(channels_in, channels)]
        if 2**level in self.config.attention_resolutions:
            stage.append(self._transformer(channels))
        return nn.ModuleList(stage)

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters and the features."""
        return next(self.parameters()).dtype

    def to_channels_last(self) -> None:
        """Lays the convolutions' weights out as the features lie; for CUDA."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                weight = module.weight.data
                module.weight.data = weight.contiguous(memory_format=torch.channels_last)

    def limit_memory(self, tokens: int | None) -> None:
        """Sets how many tokens or pixels go through a layer at once, where that is exact.

        Args:
            tokens: as many, or one whole sequence or frame; None: what is fastest.
        """
        for module in self.modules():
            chunk = getattr(module, "chunk", None)
            if isinstance(chunk, Chunk):
                chunk.tokens = tokens

    def _embed(self, noise: Tensor, vector: Tensor) -> Tensor:
        """Noise level [N] and vector conditioning [N, adm_in_channels] as [N, E]."""
        level = sinusoidal_embedding(noise, self.config.model_channels).to(self.dtype)
        return self.time_embed(level) + self.label_emb(vector.to(self.dtype))

    def _run(self, x: Tensor, conditions: Conditions, inject: Inject | None = None) -> Tensor:
        """[N, in_channels, h, w] to [N, out_channels, h, w]; see `injection` for what is added."""
        h = x.to(self.dtype, memory_format=torch.channels_last)
        added = {} if inject is None else inject(h, conditions)
        skips: list[Tensor] = []
        for index, block in enumerate(self.input_blocks):
            h = add(self._block(block, h, conditions), added.get(f"input_{index}"))
            skips.append(h)
        h = add(self._block(self.middle_block, h, conditions), added.get("middle_0"))
        for index, block in enumerate(self.output_blocks):
            skip = add(skips.pop(), added.get(f"skip_{len(skips)}"))
            h = self._block(block, torch.cat([h, skip], dim=1), conditions)
            h = add(h, added.get(f"output_{index}"))
        return self.out(h)

    def _block(self, block: nn.Module, x: Tensor, conditions: Conditions) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(run_block, block, x, conditions, use_reentrant=False)  # type: ignore[return-value]
        return run_block(block, x, conditions)


def run_block(block: nn.Module, x: Tensor, conditions: Any) -> Tensor:
    """Runs the layers of one block; only some of them are told the conditions."""
    for layer in _layers(block):
        x = layer(x, conditions) if isinstance(layer, Conditioned) else layer(x)
    return x


def _layers(block: nn.Module) -> Iterator[nn.Module]:
    assert isinstance(block, nn.ModuleList)
    return iter(block)


def pixels_as_tokens(x: Tensor) -> Tensor:
    """[N, C, h, w] as [N, h·w, C], without a copy in channels-last memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def tokens_as_pixels(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `pixels_as_tokens`: [N, h·w, C] as [N, C, h, w]."""
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)
