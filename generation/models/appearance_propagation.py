"""Monocular Appearance Propagation (MAP): the input video's appearance, taken to all views.

An attention at each time between the video's feature F_ref, which has one view, and the feature of
the coarse layout F_LR, which has all of them. In the paper's roles the video asks and the layout
answers: Q = L_Q(norm(F_ref)), K = L_K(F_LR), V = L_V(F_LR), over the w·h·V positions of a time.

The paper repeats the video V times to get Q. Rows of Q that are alike have the same result, so it
is computed once and given to all views: the same numbers for a V-th of the work. It follows that
what this attention adds to a pixel is the same in every view; what tells the views apart is F_LR
itself, to which the result is added (eq. 3 ends with Q, K and V, the sum is our reading). In the
usual roles, the ablation's "MAP w/ feature", each view asks for itself.

Letters: n times of all batch items, V views, N = n·V frames with the time outermost, P = h·w
pixels, C channels, C_r those of F_ref, d channels of a head. What it does not know: the noise.

Source: 4DVD, §3.4, eq. 3, and §5.5 (Tab. 3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

from torch import Tensor, nn

from generation.models.attention import attend
from generation.models.normalization import GroupNorm
from generation.models.unet import pixels_as_tokens, tokens_as_pixels

X = TypeVar("X")


class AppearancePropagation(nn.Module, ABC):
    """The attention and the sum; subclasses say who asks whom."""

    def __init__(self, channels: int, reference: int, head_channels: int):
        super().__init__()
        asking, asked = self.roles(channels, reference)
        self.head_channels = head_channels
        self.norm = GroupNorm(reference)
        self.to_q = nn.Linear(asking, channels, bias=False)
        self.to_k = nn.Linear(asked, channels, bias=False)
        self.to_v = nn.Linear(asked, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)

    @staticmethod
    @abstractmethod
    def roles(layout: X, reference: X) -> tuple[X, X]:
        """Of two things, the layout's and the reference's, that of who asks and of who answers."""

    def forward(self, layout: Tensor, reference: Tensor) -> Tensor:
        """Adds what the attention finds to the layout's feature.

        Args:
            layout: F_LR, [N, C, h, w].
            reference: F_ref, not normalised, [n, C_r, h, w].

        Returns:
            [N, C, h, w].
        """
        height, width = layout.shape[-2:]
        grid = pixels_as_tokens(layout).unflatten(0, (len(reference), -1))  # [n, V, P, C]
        asking, asked = self.roles(grid.flatten(1, 2), pixels_as_tokens(self.norm(reference)))
        found = self._attend(asking, asked).unflatten(1, (-1, height * width))  # one view, or all V
        return tokens_as_pixels((grid + found).flatten(0, 1), height, width)

    def _attend(self, asking: Tensor, asked: Tensor) -> Tensor:
        """Multi-head attention of tokens [n, S, …] to tokens [n, S′, …]; [n, S, C]."""
        tokens = (self.to_q(asking), self.to_k(asked), self.to_v(asked))
        q, k, v = (x.unflatten(-1, (-1, self.head_channels)).transpose(1, 2) for x in tokens)
        return self.to_out(attend(q, k, v).transpose(1, 2).flatten(2))


class ReferenceQuery(AppearancePropagation):
    """The paper's roles: the video asks, the layout's views answer together."""

    @staticmethod
    def roles(layout: X, reference: X) -> tuple[X, X]:
        """See `AppearancePropagation`."""
        return reference, layout


class FeatureQuery(AppearancePropagation):
    """The usual roles: each pixel of each view asks, the video answers."""

    @staticmethod
    def roles(layout: X, reference: X) -> tuple[X, X]:
        """See `AppearancePropagation`."""
        return layout, reference


ROLES: dict[str, type[AppearancePropagation]] = {
    "reference_query": ReferenceQuery,
    "feature_query": FeatureQuery,
}
