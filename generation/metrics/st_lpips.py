"""Shift-tolerant LPIPS: LPIPS with an AlexNet that shifts by a few pixels barely change.

The network is AlexNet with a first convolution of stride 1 and every stride replaced by a blur
[1, 2, 1]² followed by subsampling. Its weights, heads included, are part of the package
`stlpips-pytorch`; its parts under CC BY-NC-SA are neither imported nor copied here, so the package
serves to measure only, and nothing may be trained on it that is shipped.
Letters: B images, H × W pixels.
Source: Ghildyal & Liu 2022, "Shift-tolerant Perceptual Similarity Metric".
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from generation.metrics.lpips import scaled, unit_length
from generation.weights.tensors import read_tensors
from recon.errors import BackendError, WeightsError
from recon.metrics.catalog import EXTRA

PACKAGE = "stlpips_pytorch"
FILE = Path("weights", "vST0.0", "alex_shift_tolerant.pth")
# Of each layer: its convolution's name and padding, and what comes before: max pooling and blur.
CONVOLUTIONS = (
    ("net.slice1.0", 2, False),
    ("net.slice2.5", 2, True),
    ("net.slice3.9", 1, True),
    ("net.slice4.11", 1, False),
    ("net.slice5.13", 1, False),
)


class StLpips(torch.nn.Module):
    """ST-LPIPS with AlexNet.

    Args:
        tensors: weights by their name in the package's file.

    Raises:
        KeyError: a tensor is missing.
    """

    def __init__(self, tensors: dict[str, Tensor]):
        super().__init__()
        for name, _, _ in CONVOLUTIONS:
            for part in ("weight", "bias"):
                self.register_buffer(_buffer(f"{name}.{part}"), tensors[f"{name}.{part}"])
        for number in range(len(CONVOLUTIONS)):
            name = f"lin{number}.model.1.weight"
            self.register_buffer(_buffer(name), tensors[name])

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Compute the distances of pairs of images.

        Args:
            first: sRGB in [0, 1], [B, 3, H, W], at least 32 × 32.
            second: the other image of each pair, [B, 3, H, W].

        Returns:
            Distances, 0 for equal images, [B].
        """
        total = first.new_zeros(len(first))
        for number, (x, y) in enumerate(zip(self.layers(first), self.layers(second), strict=True)):
            weights = self.get_buffer(_buffer(f"lin{number}.model.1.weight"))
            total = total + F.conv2d((x - y) ** 2, weights).mean(dim=(1, 2, 3))
        return total

    def layers(self, images: Tensor) -> list[Tensor]:
        """Return the unit-length features of the five layers, [B, C, h, w]."""
        x = scaled(images)
        found = []
        for number, (name, padding, pools) in enumerate(CONVOLUTIONS):
            if pools:
                x = blur_pool(F.max_pool2d(x, 3, 1))
            weight, bias = (self.get_buffer(_buffer(f"{name}.{p}")) for p in ("weight", "bias"))
            x = F.conv2d(x, weight, bias, padding=padding)
            if number == 0:
                x = blur_pool(x)
            x = F.relu(x)
            found.append(unit_length(x))
        return found


def blur_pool(x: Tensor) -> Tensor:
    """Blur with [1, 2, 1]² / 16 after a reflection padding of 2, and take every second pixel."""
    channels = x.shape[1]
    line = x.new_tensor([1, 2, 1])
    kernel = (line[:, None] * line / 16).expand(channels, 1, 3, 3)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=channels)


def find_st_lpips() -> Path:
    """Return the weights file of the installed package.

    Raises:
        BackendError: the package is not installed.
        WeightsError: it lacks the file.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise BackendError("the metric st-lpips needs the package stlpips-pytorch", hint=EXTRA)
    path = Path(next(iter(found.submodule_search_locations))) / FILE
    if not path.is_file():
        raise WeightsError(f"{path}: expected the weights of ST-LPIPS, found no file")
    return path


def load_st_lpips(path: Path) -> StLpips:
    """Load ST-LPIPS from the package's file.

    Raises:
        WeightsError: the file holds other tensors.
    """
    try:
        return StLpips(read_tensors(path)).eval()
    except KeyError as error:
        raise WeightsError(f"{path}: {error.args[0]} is missing") from error


def _buffer(name: str) -> str:
    return name.replace(".", "_")
