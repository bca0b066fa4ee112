"""LPIPS: the distance of two images by the features of a network for classification.

    image ─▶ (x − shift) / scale ─▶ VGG16 or AlexNet ─▶ 5 layers ─▶ unit length over channels ─▶ ŷ
    LPIPS = Σ_layers mean_hw Σ_c w_c (ŷ_c − ŷ'_c)²

The evaluation of Consistent4D, which the literature on 4D generation reports with, takes VGG16 and
images of 512². Its weights are torchvision's and the channel weights w of LPIPS 0.1.
Letters: B images, C channels, H × W or h × w pixels.
Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric";
https://github.com/yanqinJiang/Consistent4D/blob/e6d3e2584b04e7fdc574094913dee9d1b407e217/evaluation/compute_image_level_metrics.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from generation.metrics.pixels import SIDE_PX, batch_of, quantized, resized
from generation.weights.tensors import load_into, read_tensors
from recon.metrics.interface import ImagePair

Backbone = Literal["vgg", "alex"]

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
VGG_CHANNELS = (64, 128, 256, 512, 512)
VGG_CONVOLUTIONS = (2, 2, 3, 3, 3)
ALEX_CHANNELS = (64, 192, 384, 256, 256)


class Lpips(nn.Module):
    """The LPIPS distance; its submodules are named like the tensors of the published files.

    Args:
        backbone: network whose features are compared.

    Attributes:
        backbone: convolutional layers, `features.*` in torchvision's file.
        heads: channel weights of each layer, `lin*.model.1.weight` in the file of LPIPS.
    """

    def __init__(self, backbone: Backbone = "vgg"):
        super().__init__()
        layers = _vgg16_layers() if backbone == "vgg" else _alexnet_layers()
        channels = VGG_CHANNELS if backbone == "vgg" else ALEX_CHANNELS
        self._taps = _taps(layers, before_pooling=backbone == "vgg")
        self._layers = nn.Sequential(*layers)
        self._weights = [nn.Conv2d(width, 1, 1, bias=False) for width in channels]
        self.backbone = nn.ModuleDict({"features": self._layers})
        self.heads = nn.ModuleDict(
            {f"lin{i}": _published_head(weights) for i, weights in enumerate(self._weights)}
        )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Compute the distance of pairs of images.

        Args:
            first: sRGB in [0, 1], [B, 3, H, W], at least 32 × 32, for AlexNet 63 × 63.
            second: the other image of each pair, [B, 3, H, W].

        Returns:
            Non-negative distances, 0 for equal images, [B].
        """
        layers = zip(self.layers(first), self.layers(second), self._weights, strict=True)
        each = [weights((x - y) ** 2).mean(dim=(1, 2, 3)) for x, y, weights in layers]
        return torch.stack(each).sum(dim=0)

    def layers(self, images: Tensor) -> list[Tensor]:
        """Return the unit-length features of the five layers that are compared, [B, C, h, w]."""
        x = scaled(images)
        found = []
        for index, layer in enumerate(self._layers):
            x = layer(x)
            if index in self._taps:
                found.append(unit_length(x))
        return found


@lru_cache(maxsize=2)
def load_lpips(backbone_file: Path, heads_file: Path, backbone: Backbone = "vgg") -> Lpips:
    """Load LPIPS with published weights; the last networks are cached.

    Args:
        backbone_file: torchvision's `vgg16-*.pth` or `alexnet-*.pth`, with or without its
            classifier, or the same tensors as safetensors.
        heads_file: `vgg.pth` or `alex.pth` of LPIPS 0.1, or the same tensors as safetensors.
        backbone: network of these files.

    Raises:
        WeightsError: a file is missing or holds other tensors.
    """
    network = Lpips(backbone)
    tensors = read_tensors(backbone_file)
    features = {name: each for name, each in tensors.items() if not name.startswith("classifier.")}
    load_into(network.backbone, features, backbone_file)
    load_into(network.heads, read_tensors(heads_file), heads_file)
    return network.eval()


class PerceptualDistance:
    """LPIPS of 8-bit images over white, resized with Pillow's bicubic filter to 512².

    Args:
        name: name of the metric.
        network: maps two batches of images in [0, 1], [B, 3, H, W], to distances [B].
        settings: of the network, for reports.
        device: device of the network.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        settings: Mapping[str, Any],
        device: str | torch.device = "cpu",
    ):
        self.name = name
        self.settings = {"side_px": SIDE_PX, "resize": "Pillow, bicubic", **settings}
        self._network, self._device = network.to(device), device

    def measure(self, pair: ImagePair) -> dict[str, float | None]:
        """Return the distance under the name of the metric."""
        images = (resized(quantized(image), SIDE_PX) for image in (pair.rgb, pair.true_rgb))
        both = [batch_of(image).to(self._device) / 255 for image in images]
        with torch.inference_mode():
            return {self.name: float(self._network(*both))}


def scaled(images: Tensor) -> Tensor:
    """Scale images in [0, 1], [B, 3, H, W], as the features of LPIPS expect them."""
    shift, scale = (images.new_tensor(each)[:, None, None] for each in (SHIFT, SCALE))
    return (2 * images - 1 - shift) / scale


def unit_length(features: Tensor) -> Tensor:
    """Divide features by their length over the channels, [B, C, h, w]."""
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _vgg16_layers() -> list[nn.Module]:
    """Build the convolutional part of VGG16 up to its last activation."""
    layers: list[nn.Module] = []
    channels = 3
    for block, (width, count) in enumerate(zip(VGG_CHANNELS, VGG_CONVOLUTIONS, strict=True)):
        if block:
            layers.append(nn.MaxPool2d(2))
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return layers


def _alexnet_layers() -> list[nn.Module]:
    """Build the convolutional part of AlexNet up to its last activation."""
    layers: list[nn.Module] = []
    channels = 3
    kernels = ((11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1))
    for block, (width, (kernel, stride, padding)) in enumerate(
        zip(ALEX_CHANNELS, kernels, strict=True)
    ):
        if block in (1, 2):
            layers.append(nn.MaxPool2d(3, 2))
        layers += [nn.Conv2d(channels, width, kernel, stride, padding), nn.ReLU()]
        channels = width
    return layers


def _taps(layers: Sequence[nn.Module], before_pooling: bool) -> frozenset[int]:
    """Indices of the activations that are compared: all, or the last before each pooling."""
    after = [*layers[1:], nn.MaxPool2d(2)]
    return frozenset(
        index
        for index, (layer, following) in enumerate(zip(layers, after, strict=True))
        if isinstance(layer, nn.ReLU)
        and (not before_pooling or isinstance(following, nn.MaxPool2d))
    )


def _published_head(weights: nn.Conv2d) -> nn.ModuleDict:
    """Wrap weights under their published name, where an (inactive) dropout comes first."""
    return nn.ModuleDict({"model": nn.Sequential(nn.Identity(), weights)})
