"""SV4D's UNet, of both versions: T times × V views of one moving object.

Letters: b batch, T times, V views, F = T·V frames with the time outermost (f = t·V + v), N = b·F,
C channels, h × w latent pixels, P = h·w, E width of the embedding. Frames see each other in
  - the convolutions along the flat list of F frames, in which neighbors are mostly views,
  - an attention over the views of one time at one pixel (or its variant `attend_pixel_groups`),
  - an attention over the times of one view at one pixel, conditioned on the view's reference image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

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
from generation.models.unet import ConditionedLayer, FeatureResiduals, UNet, UNetConfig


@dataclass(frozen=True)
class SV4DConfig(UNetConfig):
    """Sizes and variants of SV4D's UNet; the defaults are those of the first version.

    Attributes:
        motion_context_dim: channels of the reference views' latents.
        use_camera_emb: whether a view is embedded by its camera instead of its index.
        use_3d_attention: whether the attention over views runs over groups of neighboring pixels
            instead, see `attend_pixel_groups`.
        separate_motion_merge_factor: whether the motion block has a mixer of its own.
    """

    motion_context_dim: int = 4
    use_camera_emb: bool = False
    use_3d_attention: bool = False
    separate_motion_merge_factor: bool = False


class SV4DConditions(NamedTuple):
    """Conditioning of the layers.

    Attributes:
        emb: embedding of noise level and vector conditioning, [N, E].
        context: image encoder's token of each time of the input video, [b, T, context_dim].
        reference: latents of the reference views, [b, V, motion_context_dim, H, W].
    """

    emb: Tensor
    context: Tensor
    reference: Tensor

    @property
    def times(self) -> int:
        """Number of times T."""
        return self.context.shape[1]

    @property
    def views(self) -> int:
        """Number of views V."""
        return self.reference.shape[1]


class SV4DResidual(ConditionedLayer[SV4DConditions], SpaceTimeBlock):
    """A residual block in space, blended with one along the flat list of times and views."""

    def __init__(self, channels_in: int, channels: int, embedding: int):
        super().__init__(channels_in, channels, embedding)
        self.time_mix_blocks = FrameBlock(channels, embedding)

    def forward(self, x: Tensor, conditions: SV4DConditions) -> Tensor:
        """Map [N, channels_in, h, w] to [N, channels, h, w]."""
        h = self.in_space(x, conditions.emb)
        frames = conditions.times * conditions.views
        return self.blend(h, self.time_mix_blocks(h, conditions.emb, frames))


class SV4DTransformer(ConditionedLayer[SV4DConditions]):
    """Attention in space, then over views, then over times; the last two are blended in."""

    def __init__(self, channels: int, config: SV4DConfig):
        super().__init__()
        sizes = (channels, config.num_head_channels)
        view = config.embedding if config.use_camera_emb else channels
        self.use_camera_emb = config.use_camera_emb
        self.attend_views = attend_pixel_groups if config.use_3d_attention else attend_views
        self.norm = GroupNorm(channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(*sizes, config.context_dim)])
        self.time_mix_blocks = nn.ModuleList([SequenceBlock(*sizes, config.context_dim)])
        self.motion_blocks = nn.ModuleList([SequenceBlock(*sizes, config.motion_context_dim)])
        self.time_mix_time_embed = embedding_mlp(view, 4 * channels, channels)
        self.time_mix_motion_embed = embedding_mlp(channels, 4 * channels, channels)
        self.time_mixer = Mixer()
        if config.separate_motion_merge_factor:
            self.time_mixer_motion = Mixer()
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, conditions: SV4DConditions) -> Tensor:
        """Map [N, C, h, w] to the same shape."""
        T, V = conditions.times, conditions.views
        height, width = x.shape[-2:]
        grid = self.proj_in(pixels_as_tokens(self.norm(x))).unflatten(0, (-1, T, V))
        times = self.time_mix_motion_embed(_indices(T, grid))[:, None, None]
        views = self._views(grid, conditions)
        reference = _resize(conditions.reference, height, width)
        space, over_views, over_times = self._blocks
        grid = attend_space(space, grid, conditions.context)
        seen = self.attend_views(over_views, grid + views, conditions.context)
        grid = self.time_mixer(grid, seen)
        mix_motion = getattr(self, "time_mixer_motion", self.time_mixer)
        grid = mix_motion(grid, attend_times(over_times, grid + times, reference))
        return x + tokens_as_pixels(self.proj_out(grid.flatten(0, 2)), height, width)

    @property
    def _blocks(self) -> tuple[TransformerBlock, SequenceBlock, SequenceBlock]:
        """The blocks in space, over views, over times; the published lists have one of each."""
        lists = (self.transformer_blocks, self.time_mix_blocks, self.motion_blocks)
        return cast(Any, tuple(blocks[0] for blocks in lists))

    def _views(self, grid: Tensor, conditions: SV4DConditions) -> Tensor:
        """Embed each view, [b or 1, 1, V, 1, C]."""
        V = conditions.views
        if self.use_camera_emb:
            camera = conditions.emb.unflatten(0, (-1, conditions.times, V))[:, 0]
        else:
            camera = _indices(V, grid)[None]
        return self.time_mix_time_embed(camera)[:, None, :, None]


class SV4DUNet(UNet[SV4DConfig, SV4DConditions]):
    """The UNet of SV4D, SV4D 2.0 and the 8-view variant of SV4D 2.0."""

    def _residual(self, channels_in: int, channels: int) -> SV4DResidual:
        return SV4DResidual(channels_in, channels, self.config.embedding)

    def _transformer(self, channels: int) -> SV4DTransformer:
        return SV4DTransformer(channels, self.config)

    def forward(
        self,
        x: Tensor,
        noise: Tensor,
        vector: Tensor,
        context: Tensor,
        reference: Tensor,
        feature_residuals: FeatureResiduals | None = None,
    ) -> Tensor:
        """Predict all times and views at once.

        Args:
            x: noisy latents times c_in, concatenated with the input video's latents, time-major,
                [N, in_channels, h, w]; h and w divisible by `config.downsampling`.
            noise: c_noise of each frame, [N].
            vector: vector conditioning, [N, adm_in_channels].
            context: image encoder's token of each time of the input video, [b, T, context_dim].
            reference: unscaled latents of the reference views, [b, V, motion_context_dim, H, W];
                zeros where there are none.
            feature_residuals: function that computes residuals to add to the features, e.g. those
                of a structure branch; None for none.

        Returns:
            [N, out_channels, h, w].
        """
        conditions = SV4DConditions(
            self._embed(noise, vector), context.to(self.dtype), reference.to(self.dtype)
        )
        return self._run(x, conditions, feature_residuals)


def attend_space(block: TransformerBlock, grid: Tensor, context: Tensor) -> Tensor:
    """Run a block over the pixels of each frame.

    Args:
        block: the block in space.
        grid: tokens, [b, T, V, P, C].
        context: [b, T, context_dim].

    Returns:
        [b, T, V, P, C].
    """
    attended = block.attn2(context).repeat_interleave(grid.shape[2], dim=1).flatten(0, 1)
    tokens = grid.flatten(0, 2).unsqueeze(2)
    return block(tokens, attended[:, None, None]).view(grid.shape)


def attend_views(block: SequenceBlock, grid: Tensor, context: Tensor) -> Tensor:
    """Run a block over the V views of one time at one pixel; shapes as in `attend_space`."""
    attended = block.attn2(context).flatten(0, 1)[:, None, None]
    return block(grid.flatten(0, 1), attended).view(grid.shape)


def attend_pixel_groups(block: SequenceBlock, grid: Tensor, context: Tensor) -> Tensor:
    """Run a block over V neighboring pixels of one frame; shapes as in `attend_space`.

    This is what the "3-D attention" of the published SV4D 2.0 computes: the flat list of the V·P
    positions of a time is cut into P groups of V. The image encoder's tokens are repeated in
    another order than the groups, so group g of time t gets the token of time ⌊(g·T + t) / P⌋.
    """
    b, T, V, P, C = grid.shape
    group = torch.arange(P, device=grid.device)
    time = torch.arange(T, device=grid.device)
    token_time = (group * T + time[:, None]) // P  # [T, P]
    attended = block.attn2(context)[:, token_time].reshape(-1, 1, 1, C)
    return block(grid.reshape(b * T * P, V, 1, C), attended).view(grid.shape)


def attend_times(block: SequenceBlock, grid: Tensor, reference: Tensor) -> Tensor:
    """Run a block over the T times of one view at one pixel.

    Args:
        block: the motion block.
        grid: tokens, [b, T, V, P, C].
        reference: latents of the reference views at the pixels, [b, V, P, motion_context_dim].

    Returns:
        [b, T, V, P, C].
    """
    attended = block.attn2(reference).flatten(1, 2).unsqueeze(1)
    return block(grid.flatten(2, 3), attended).view(grid.shape)


def _indices(count: int, like: Tensor) -> Tensor:
    """Sinusoidal embeddings of 0 … count − 1, [count, C]."""
    index = torch.arange(count, device=like.device)
    return sinusoidal_embedding(index, like.shape[-1]).to(like)


def _resize(reference: Tensor, height: int, width: int) -> Tensor:
    """Resize latents [b, V, c, H, W] and return them as tokens, [b, V, P, c]."""
    small = interpolate(
        reference.flatten(0, 1), (height, width), mode="bilinear", align_corners=False
    )
    return pixels_as_tokens(small).unflatten(0, reference.shape[:2])
