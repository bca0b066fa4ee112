"""Monocular Appearance Propagation (MAP): cross-attention between the input video and all views.

At each time it attends between the video's feature F_ref, which has one view, and the feature of
the coarse layout F_LR, which has all of them. In the paper the video is the query and the layout is
key and value: Q = L_Q(norm(F_ref)), K = L_K(F_LR), V = L_V(F_LR), over the w·h·V positions of each
time.

The paper repeats the video V times to get Q. Equal rows of Q have equal results, so the attention
is computed once and broadcast to all views: the same numbers for 1/V of the work. Consequently the
residual at a pixel is the same in every view, and views differ only by F_LR itself, to which it is
added (eq. 3 ends with Q, K and V; the sum is our reading). In the ablation "MAP w/ feature" the
roles are reversed: each view is a query of its own.

Letters: n times of all batch items, V views, N = n·V frames with the time outermost, P = h·w
pixels, C channels, C_r those of F_ref, d channels of a head.

Source: 4DVD, §3.4, eq. 3, and §5.5 (Tab. 3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

from torch import Tensor, nn

from generation.models.layers import GroupNorm, pixels_as_tokens, tokens_as_pixels
from generation.models.transformer import attend

X = TypeVar("X")


class AppearancePropagation(nn.Module, ABC):
    """Cross-attention with a residual connection; subclasses choose the query and the key."""

    def __init__(self, channels: int, reference: int, head_channels: int):
        super().__init__()
        query, key = self.roles(channels, reference)
        self.head_channels = head_channels
        self.norm = GroupNorm(reference)
        self.to_q = nn.Linear(query, channels, bias=False)
        self.to_k = nn.Linear(key, channels, bias=False)
        self.to_v = nn.Linear(key, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)

    @staticmethod
    @abstractmethod
    def roles(layout: X, reference: X) -> tuple[X, X]:
        """Return (query, key), given a value for the layout and the same for the reference.

        Used for tensors and for channel counts; the value tokens are those of the key.
        """

    def forward(self, layout: Tensor, reference: Tensor) -> Tensor:
        """Add the result of the attention to the layout's feature.

        Args:
            layout: F_LR, [N, C, h, w].
            reference: F_ref, not normalized, [n, C_r, h, w].

        Returns:
            [N, C, h, w].
        """
        height, width = layout.shape[-2:]
        grid = pixels_as_tokens(layout).unflatten(0, (len(reference), -1))  # [n, V, P, C]
        query, key = self.roles(grid.flatten(1, 2), pixels_as_tokens(self.norm(reference)))
        residual = self._attend(query, key).unflatten(1, (-1, height * width))  # 1 or V views
        return tokens_as_pixels((grid + residual).flatten(0, 1), height, width)

    def _attend(self, query: Tensor, key: Tensor) -> Tensor:
        """Multi-head attention of tokens [n, S, …] to tokens [n, S′, …]; [n, S, C]."""
        tokens = (self.to_q(query), self.to_k(key), self.to_v(key))
        q, k, v = (x.unflatten(-1, (-1, self.head_channels)).transpose(1, 2) for x in tokens)
        return self.to_out(attend(q, k, v).transpose(1, 2).flatten(2))


class ReferenceQuery(AppearancePropagation):
    """The paper's roles: the video is the query, all views of the layout together are the key."""

    @staticmethod
    def roles(layout: X, reference: X) -> tuple[X, X]:
        """See `AppearancePropagation`."""
        return reference, layout


class FeatureQuery(AppearancePropagation):
    """The ablation's roles: each pixel of each view is a query, the video is the key."""

    @staticmethod
    def roles(layout: X, reference: X) -> tuple[X, X]:
        """See `AppearancePropagation`."""
        return layout, reference


ROLES: dict[str, type[AppearancePropagation]] = {
    "reference_query": ReferenceQuery,
    "feature_query": FeatureQuery,
}
