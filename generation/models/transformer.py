"""Transformer blocks: pre-norm attention, a single-token context, GEGLU.

Letters: tokens are [B, S, M, C], attention runs along S (see `attention`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from generation.models.attention import SelfAttention, SingleKeyAttention
from generation.models.chunks import Chunk
from generation.models.feed_forward import FeedForward


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to one token, feed-forward; each added to its input.

    `norm2` precedes a cross-attention that never looks at its queries: it is loaded and has no
    effect.
    """

    def __init__(self, channels: int, head_channels: int, context_channels: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = SelfAttention(channels, head_channels)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = SingleKeyAttention(channels, context_channels)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)
        self.chunk = Chunk()

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """Runs the block; sequences do not see each other, so they may go through in pieces.

        Args:
            x: tokens, [B, S, M, C].
            attended: `attn2` of the context, which no token has a say in, broadcast against x. The
                caller makes it, because contexts are few and tokens many.

        Returns:
            [B, S, M, C].
        """
        (B, S, M), chunk = x.shape[:3], self.chunk.size(x)
        if chunk >= B * S * M or B == M == 1:
            return self._block(x, attended)
        axis = 0 if M == 1 or chunk >= S * M else 2
        length = max(1, chunk // (S * M if axis == 0 else S * B))
        results = []
        for start in range(0, x.shape[axis], length):
            stop = start + length
            results.append(
                self._block(_cut(x, axis, start, stop), _cut(attended, axis, start, stop))
            )
        return torch.cat(results, dim=axis)

    def _block(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + attended
        return x + self.ff(self.norm3(x))


def _cut(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """A part of an axis, or all of an axis of length 1, which is broadcast."""
    if x.shape[axis] == 1:
        return x
    return x.narrow(axis, start, min(stop, x.shape[axis]) - start)


class SequenceBlock(TransformerBlock):
    """The block along frames, views or times: one more feed-forward in front."""

    def __init__(self, channels: int, head_channels: int, context_channels: int):
        super().__init__(channels, head_channels, context_channels)
        self.norm_in = nn.LayerNorm(channels)
        self.ff_in = FeedForward(channels)

    def _block(self, x: Tensor, attended: Tensor) -> Tensor:
        return super()._block(x + self.ff_in(self.norm_in(x)), attended)


class Mixer(nn.Module):
    """Blends features from before and after a block with a learned share."""

    def __init__(self):
        super().__init__()
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def forward(self, before: Tensor, after: Tensor, keep: Tensor | None = None) -> Tensor:
        """A · before + (1 − a) · after with a = sigmoid(mix_factor).

        Args:
            before: of any shape.
            after: of the same shape.
            keep: bool, where a = 1, broadcast against them; nowhere if None.
        """
        share = self.mix_factor.sigmoid()
        if keep is not None:
            share = torch.where(keep, 1, share)
        # Of one type: in training with half precision the shares stay float32.
        return torch.lerp(after, before.to(after.dtype), share.to(after.dtype))
