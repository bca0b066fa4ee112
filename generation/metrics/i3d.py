"""I3D (Inception-v1 inflated to 3D) for Kinetics-400, the network of FVD.

    video ─▶ 7³ / 2 ─▶ pool ─▶ 1³ ─▶ 3³ ─▶ pool ─▶ mixed 3b 3c ─▶ pool / 2 ─▶ mixed 4b … 4f
          ─▶ pool / 2 ─▶ mixed 5b 5c ─▶ mean over 7 × 7 pixels ─▶ 400 logits ─▶ mean over time

Every layer pads like TensorFlow's SAME. The published evaluations of 4D generation pool [1, 7, 7]
before the logits, so clips of any length are possible; with the original [2, 7, 7] they need nine
frames or more. Modules are named like the tensors of `i3d_pretrained_400.pt`.
Letters: B videos, C channels, T frames, H × W pixels.
Source: Carreira & Zisserman 2017, "Quo Vadis, Action Recognition?"; the pooling:
https://github.com/yanqinJiang/Consistent4D/blob/e6d3e2584b04e7fdc574094913dee9d1b407e217/evaluation/inception3d.py
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.weights.tensors import load_into, read_tensors

SIDE_PX = 224
CLASSES = 400
# Channels of the branches: 1³ · 1³ → 3³ · 1³ → 3³ · pool → 1³
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
Triple = tuple[int, int, int]


class I3d(nn.Module):
    """I3D up to its logits.

    Args:
        width: fraction of the published channels; below 1 for tests.
    """

    def __init__(self, width: float = 1.0):
        super().__init__()
        stem = [max(1, int(width * channels)) for channels in (64, 64, 192)]
        self.Conv3d_1a_7x7 = Unit(3, stem[0], (7, 7, 7), (2, 2, 2))
        self.Conv3d_2b_1x1 = Unit(stem[0], stem[1], (1, 1, 1))
        self.Conv3d_2c_3x3 = Unit(stem[1], stem[2], (3, 3, 3))
        channels = stem[2]
        for name, published in MIXED.items():
            branches = [max(1, int(width * each)) for each in published]
            self.add_module(name, Mixed(channels, branches))
            channels = branches[0] + branches[2] + branches[4] + branches[5]
        self.logits = Unit(channels, CLASSES, (1, 1, 1), is_last=True)

    def forward(self, videos: Tensor) -> Tensor:
        """Compute the logits, averaged over time.

        Args:
            videos: sRGB in [−1, 1], [B, 3, T, 224, 224], T ≥ 1.

        Returns:
            [B, 400].
        """
        x = max_pool(self.Conv3d_1a_7x7(videos), (1, 3, 3), (1, 2, 2))
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        for name in MIXED:
            if name == "Mixed_4b":
                x = max_pool(x, (3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                x = max_pool(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(name)(x)
        x = self.logits(F.avg_pool3d(x, (1, 7, 7), stride=1))
        return x.flatten(3).squeeze(3).mean(dim=2)


class Unit(nn.Module):
    """Convolution, batch norm and ReLU; the last one has a bias instead.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: size over time, height and width.
        stride: stride over time, height and width.
        is_last: whether it makes the logits.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Triple,
        stride: Triple = (1, 1, 1),
        is_last: bool = False,
    ):
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=is_last)
        self._kernel, self._stride = kernel, stride
        if not is_last:
            self.bn = nn.BatchNorm3d(outputs, eps=1e-3)
        self._is_last = is_last

    def forward(self, x: Tensor) -> Tensor:
        """Map features, [B, C, T, H, W]."""
        x = self.conv3d(pad_same(x, self._kernel, self._stride))
        return x if self._is_last else F.relu(self.bn(x))


class Mixed(nn.Module):
    """Four branches side by side.

    Args:
        inputs: input channels.
        channels: see `MIXED`.
    """

    def __init__(self, inputs: int, channels: list[int]):
        super().__init__()
        self.b0 = Unit(inputs, channels[0], (1, 1, 1))
        self.b1a = Unit(inputs, channels[1], (1, 1, 1))
        self.b1b = Unit(channels[1], channels[2], (3, 3, 3))
        self.b2a = Unit(inputs, channels[3], (1, 1, 1))
        self.b2b = Unit(channels[3], channels[4], (3, 3, 3))
        self.b3b = Unit(inputs, channels[5], (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map features, [B, C, T, H, W]."""
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1))
        branches = (
            self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)
        )  # fmt: skip
        return torch.cat(branches, dim=1)


def pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Pad [B, C, T, H, W] with zeros like TensorFlow's SAME, an odd one at the end."""
    padding: list[int] = []
    for length, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max(k - (length % s or s), 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)


def max_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Pool the maximum of features that are not negative, padded like TensorFlow's SAME."""
    return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


def load_i3d(path: Path, width: float = 1.0) -> I3d:
    """Load I3D.

    Args:
        path: `i3d_pretrained_400.pt`, or the same tensors as safetensors.
        width: see `I3d`.

    Raises:
        WeightsError: the file is missing or holds other tensors.
    """
    network = I3d(width)
    tensors = read_tensors(path)
    expected = network.state_dict()
    for name in expected:  # older files lack the counters of batches, which are not used
        if name.endswith("num_batches_tracked"):
            tensors.setdefault(name, expected[name])
    return load_into(network, tensors, path)
