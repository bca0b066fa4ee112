"""SV3D's UNet: F views of an orbit around an object, at one time.

Letters: b batch, F frames (views of the orbit), N = b·F, C channels, h × w latent pixels, E width
of the embedding. Frames see each other in the convolutions along F and in the attention along F at
each pixel.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from generation.models.layers import (
    FrameBlock,
    GroupNorm,
    Mixer,
    SpaceTimeBlock,
    embedding_mlp,
    pixels_as_tokens,
    sinusoidal_embedding,
    tokens_as_pixels,
)
from generation.models.transformer import SequenceBlock, TransformerBlock
from generation.models.unet import ConditionedLayer, UNet, UNetConfig


class SV3DConditions(NamedTuple):
    """Conditioning of the layers.

    Attributes:
        emb: embedding of noise level and vector conditioning, [N, E].
        context: image encoder's token of each frame, [N, context_dim].
        frames: number of frames F.
        still: frames that the blocks along F leave unchanged, bool, [N]; None for none.
    """

    emb: Tensor
    context: Tensor
    frames: int
    still: Tensor | None


class SV3DResidual(ConditionedLayer[SV3DConditions], SpaceTimeBlock):
    """A residual block in space, blended with one along the views."""

    def __init__(self, channels_in: int, channels: int, embedding: int):
        super().__init__(channels_in, channels, embedding)
        self.time_stack = FrameBlock(channels, embedding)

    def forward(self, x: Tensor, conditions: SV3DConditions) -> Tensor:
        """Map [N, channels_in, h, w] to [N, channels, h, w]."""
        h = self.in_space(x, conditions.emb)
        along_frames = self.time_stack(h, conditions.emb, conditions.frames)
        return self.blend(h, along_frames, conditions.still)


class SV3DTransformer(ConditionedLayer[SV3DConditions]):
    """Attention over the pixels of each frame, then over the frames at each pixel."""

    def __init__(self, channels: int, config: UNetConfig):
        super().__init__()
        sizes = (channels, config.num_head_channels, config.context_dim)
        self.norm = GroupNorm(channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(*sizes)])
        self.time_pos_embed = embedding_mlp(channels, 4 * channels, channels)
        self.time_stack = nn.ModuleList([SequenceBlock(*sizes)])
        self.time_mixer = Mixer()
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, conditions: SV3DConditions) -> Tensor:
        """Map [N, C, h, w] to the same shape."""
        frames, still = conditions.frames, conditions.still
        tokens = self.proj_in(pixels_as_tokens(self.norm(x)))
        space, along_frames = self._blocks
        context = space.attn2(conditions.context)[:, None, None]
        tokens = space(tokens.unsqueeze(2), context).squeeze(2)
        rows = tokens.unflatten(0, (-1, frames)) + self._positions(frames, tokens)
        first = conditions.context.unflatten(0, (-1, frames))[:, 0]
        rows = along_frames(rows, along_frames.attn2(first)[:, None, None])
        keep = None if still is None else still[:, None, None]
        tokens = self.time_mixer(tokens, rows.flatten(0, 1), keep)
        return x + tokens_as_pixels(self.proj_out(tokens), *x.shape[-2:])

    @property
    def _blocks(self) -> tuple[TransformerBlock, SequenceBlock]:
        """The blocks in space and along the frames; the published lists have one of each."""
        return cast(Any, (self.transformer_blocks[0], self.time_stack[0]))

    def _positions(self, frames: int, like: Tensor) -> Tensor:
        """Embed the index of each frame, [F, 1, C]."""
        index = torch.arange(frames, device=like.device)
        return self.time_pos_embed(sinusoidal_embedding(index, like.shape[-1]).to(like))[:, None]


class SV3DUNet(UNet[UNetConfig, SV3DConditions]):
    """The UNet of SV3D_u and SV3D_p, which differ in the width of the vector conditioning."""

    def _residual(self, channels_in: int, channels: int) -> SV3DResidual:
        return SV3DResidual(channels_in, channels, self.config.embedding)

    def _transformer(self, channels: int) -> SV3DTransformer:
        return SV3DTransformer(channels, self.config)

    def forward(
        self,
        x: Tensor,
        noise: Tensor,
        vector: Tensor,
        context: Tensor,
        frames: int,
        still: Tensor | None = None,
    ) -> Tensor:
        """Predict all views of an orbit at once.

        Args:
            x: noisy latents times c_in, concatenated with the conditioning latents,
                [N, in_channels, h, w]; h and w divisible by `config.downsampling`.
            noise: c_noise of each frame, [N].
            vector: vector conditioning, [N, adm_in_channels].
            context: image encoder's token of each frame, [N, context_dim].
            frames: number of frames F.
            still: frames that are not mixed with others, bool, [N]; None for none. The published
                code calls this `image_only_indicator`.

        Returns:
            [N, out_channels, h, w].
        """
        conditions = SV3DConditions(
            self._embed(noise, vector), context.to(self.dtype), frames, still
        )
        return self._run(x, conditions)
