"""LPIPS, the learned distance between images that the paper filters by, with VGG16 features.

    image ─▶ (x − shift) / scale ─▶ VGG16 ─▶ 5 layers ─▶ unit length over channels ─▶ ŷ
    distance = Σ_layers mean_hw Σ_c w_c (ŷ_c − ŷ'_c)²

The networks are not ours to hand out: the user names two published files, torchvision's `vgg16`
and the `vgg.pth` of LPIPS 0.1 with the weights w. An image is compared with itself at a quarter of
its resolution, as in `image_quality`. There is no good default for what distance is too small or
too large, since it depends on the assets: look at the report first.

Source: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018.
Letters: B images, C channels. What it does not know: grids.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from generation.curation.filters.clips import Clip, evenly
from generation.curation.filters.image_quality import coarsened
from generation.curation.filters.published_tensors import load_into, read_tensors

SIDE_PX = 128
LEAST_SIDE_PX = 32  # VGG16 halves four times before its last layers
IMAGES_OF_A_VIEW = 2
CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = (2, 2, 3, 3, 3)
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """The distance; its sub-modules are named as the tensors of the published files.

    Attributes:
        vgg: `features.*` of torchvision's VGG16.
        heads: `lin*.model.1.weight`, the weights of each layer's channels.
    """

    def __init__(self):
        super().__init__()
        self._layers = nn.Sequential(*_vgg16_layers())
        self._weights = [nn.Conv2d(channels, 1, 1, bias=False) for channels in CHANNELS]
        self.vgg = nn.ModuleDict({"features": self._layers})
        self.heads = nn.ModuleDict(
            {f"lin{i}": _published_head(weights) for i, weights in enumerate(self._weights)}
        )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances of pairs of images.

        Args:
            first: sRGB in [0, 1], [B, 3, H, W], at least 32 × 32.
            second: likewise.

        Returns:
            At least 0, and 0 for equal images, [B].
        """
        layers = zip(self.layers(first), self.layers(second), self._weights, strict=True)
        each = [weights((x - y) ** 2).mean(dim=(1, 2, 3)) for x, y, weights in layers]
        return torch.stack(each).sum(dim=0)

    def layers(self, images: Tensor) -> list[Tensor]:
        """Features of the last activation before each pooling, of unit length, [B, C, h, w]."""
        shift, scale = (images.new_tensor(each)[:, None, None] for each in (SHIFT, SCALE))
        x = (2 * images - 1 - shift) / scale
        found = []
        for layer in self._layers:
            if isinstance(layer, nn.MaxPool2d):
                found.append(_unit(x))
            x = layer(x)
        return [*found, _unit(x)]


@lru_cache(maxsize=1)
def load_lpips(vgg_file: Path, heads_file: Path) -> Lpips:
    """The distance with published weights; kept, once loaded.

    Args:
        vgg_file: torchvision's `vgg16-*.pth`, with or without its classifier, or the same as
            safetensors.
        heads_file: `vgg.pth` of LPIPS 0.1, or the same as safetensors.

    Raises:
        WeightsError: a file is missing or holds other tensors.
    """
    network = Lpips()
    tensors = read_tensors(vgg_file)
    features = {name: each for name, each in tensors.items() if not name.startswith("classifier.")}
    load_into(network.vgg, features, vgg_file)
    load_into(network.heads, read_tensors(heads_file), heads_file)
    return network.eval()


def measure_lpips(clips: Sequence[Clip | None], network: Lpips) -> float:
    """Mean distance of some views' images to themselves at a quarter of the resolution.

    Args:
        clips: all frames of each view; None for a view that shows nothing. 0 if all are.
        network: the distance.
    """
    found = []
    for clip in clips:
        if clip is not None:
            small = clip.at(evenly(len(clip.alpha), IMAGES_OF_A_VIEW)).shrunk(SIDE_PX)
            images = torch.from_numpy(_enlarged(small.rgb)).permute(0, 3, 1, 2)
            coarse = np.stack([[coarsened(c.numpy()) for c in image] for image in images])
            with torch.inference_mode():
                found.append(network(images, torch.from_numpy(coarse)).mean())
    return float(np.mean(found)) if found else 0.0


def _vgg16_layers() -> list[nn.Module]:
    """The convolutional part of VGG16 up to its last activation."""
    layers: list[nn.Module] = []
    channels = 3
    for block, (width, count) in enumerate(zip(CHANNELS, CONVOLUTIONS, strict=True)):
        if block:
            layers.append(nn.MaxPool2d(2))
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return layers


def _published_head(weights: nn.Conv2d) -> nn.ModuleDict:
    """Under its published name: a dropout comes first, which does nothing when measuring."""
    return nn.ModuleDict({"model": nn.Sequential(nn.Identity(), weights)})


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _enlarged(rgb: np.ndarray) -> np.ndarray:
    """With white around images that are too small for the network, [T, h, w, 3]."""
    missing = [max(0, LEAST_SIDE_PX - length) for length in rgb.shape[1:3]]
    return np.pad(rgb, [(0, 0), (0, missing[0]), (0, missing[1]), (0, 0)], constant_values=1.0)
