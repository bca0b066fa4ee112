"""Group normalisation that is as exact in channels-last memory as it is elsewhere.

PyTorch's CPU kernel for that memory takes the variance as E[x²] − E[x]², which loses digits where
the mean is not small. Its CUDA kernel does not, and is used as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

GROUPS = 32


class GroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm` with 32 groups."""

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__(GROUPS, channels, eps)

    def forward(self, input: Tensor) -> Tensor:
        """Normalises [N, C, height, width] over each group of channels and all pixels."""
        if input.device.type != "cpu":
            return super().forward(input)
        return group_norm(input, self.weight, self.bias, self.eps)


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Group normalisation in two passes, each along the memory of a channels-last tensor.

    The variance is that of each row of pixels around its own mean, then that of the rows' means.

    Args:
        x: [N, C, height, width].
        weight: [C].
        bias: [C].
        eps: added to the variance.

    Returns:
        Of the shape and the memory format of a channels-last x.
    """
    rows = x.permute(0, 2, 3, 1).unflatten(-1, (GROUPS, -1))  # [N, height, width, groups, c]
    variances, means = torch.var_mean(rows, dim=(2, 4), correction=0)
    variance, mean = torch.var_mean(means, dim=1, correction=0)
    scale = torch.rsqrt(variances.mean(1) + variance + eps)
    mean, scale = (_of_channels(value, x.shape[1])[:, None, None] for value in (mean, scale))
    centred = x.permute(0, 2, 3, 1) - mean  # first, because means can be large beside deviations
    return torch.addcmul(bias, centred, scale * weight).permute(0, 3, 1, 2)


def _of_channels(values: Tensor, channels: int) -> Tensor:
    """[N, groups] as [N, C]."""
    return values.repeat_interleave(channels // GROUPS, dim=1)
