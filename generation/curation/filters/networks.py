"""Published networks that measure images: LPIPS with VGG16 features, and RAFT optical flow.

    image ─▶ (x − shift) / scale ─▶ VGG16 ─▶ 5 layers ─▶ unit length over channels ─▶ ŷ
    LPIPS = Σ_layers mean_hw Σ_c w_c (ŷ_c − ŷ'_c)²

Their weights are not bundled: the user passes torchvision's `vgg16-*.pth`, the `vgg.pth` of LPIPS
0.1 (the weights w) and torchvision's `raft_large_*.pth`. LPIPS compares an image with itself at a
quarter of its resolution, as `image_quality` does; no default threshold fits every data set.
`.pth` files are read with torch's restricted unpickler (`weights_only=True`).

Letters: B images, C channels, T frames, H × W or h × w pixels.
Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from generation.curation.filters.clips import Clip, evenly
from generation.curation.filters.image_quality import coarsened
from generation.curation.filters.motion import Flow, padded
from recon.errors import BackendError, WeightsError

Network = TypeVar("Network", bound=nn.Module)

SIDE_PX = 128
MIN_SIDE_PX = 32  # VGG16 halves the resolution four times before its last layers
IMAGES_PER_VIEW = 2
CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = (2, 2, 3, 3, 3)
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
RAFT_MULTIPLE = 8
RAFT_MIN_SIDE = 128  # its coarsest correlation volume has 1/64 of the resolution


class Lpips(nn.Module):
    """The LPIPS distance; its submodules are named like the tensors of the published files.

    Attributes:
        vgg: convolutional layers of VGG16, `features.*` in torchvision's file.
        heads: channel weights of each layer, `lin*.model.1.weight` in the file of LPIPS.
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
        """Compute the distance of pairs of images.

        Args:
            first: sRGB in [0, 1], [B, 3, H, W], at least 32 × 32.
            second: the other image of each pair, [B, 3, H, W].

        Returns:
            Non-negative distances, 0 for equal images, [B].
        """
        layers = zip(self.layers(first), self.layers(second), self._weights, strict=True)
        each = [weights((x - y) ** 2).mean(dim=(1, 2, 3)) for x, y, weights in layers]
        return torch.stack(each).sum(dim=0)

    def layers(self, images: Tensor) -> list[Tensor]:
        """Return the unit-length features before each pooling and at the end, [B, C, h, w]."""
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
    """Load LPIPS with published weights; the last network is cached.

    Args:
        vgg_file: torchvision's `vgg16-*.pth`, with or without its classifier, or the same tensors
            as safetensors.
        heads_file: `vgg.pth` of LPIPS 0.1, or the same tensors as safetensors.

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
    """Measure the mean LPIPS between images and their quarter-resolution versions.

    Args:
        clips: all frames of each view; None for an empty view. The result is 0 if all are empty.
        network: LPIPS.
    """
    found = []
    for clip in clips:
        if clip is not None:
            small = clip.at(evenly(len(clip.alpha), IMAGES_PER_VIEW)).shrunk(SIDE_PX)
            images = torch.from_numpy(_pad_with_white(small.rgb)).permute(0, 3, 1, 2)
            coarse = np.stack([[coarsened(c.numpy()) for c in image] for image in images])
            with torch.inference_mode():
                found.append(network(images, torch.from_numpy(coarse)).mean())
    return float(np.mean(found)) if found else 0.0


@lru_cache(maxsize=1)
def raft_flow(file: Path) -> Flow:
    """Load RAFT (large) as an optical flow method; the last network is cached.

    Args:
        file: torchvision's `raft_large_*.pth`, or the same tensors as safetensors.

    Raises:
        BackendError: torchvision is not installed or does not fit torch.
        WeightsError: the file holds other tensors.
    """
    try:
        from torchvision.models.optical_flow import (  # pyright: ignore[reportMissingImports]
            raft_large,
        )
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise BackendError(
            f"RAFT needs a torchvision that fits torch {torch.__version__} ({error}); "
            "`pip install torchvision`"
        ) from error
    network = load_into(raft_large(), read_tensors(file), file)

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        pair = [_raft_input(image) for image in (first, second)]
        with torch.inference_mode():
            found: Any = network(*pair)[-1][0]
        return found.permute(1, 2, 0).numpy()[: first.shape[0], : first.shape[1]]

    return flow


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read the named tensors of a `.pth` or safetensors file.

    Raises:
        WeightsError: the file does not exist, or holds anything but named tensors.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: no such weights file; check the path")
    try:
        tensors = _read(file)
    except Exception as error:  # both readers raise whatever their parsers do
        raise WeightsError(
            f"{file}: expected a .pth or safetensors file with plain tensors ({error})"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise WeightsError(f"{file}: expected named tensors only")
    return tensors


def load_into(network: Network, tensors: dict[str, Tensor], file: Path) -> Network:
    """Load tensors into a network and freeze it.

    Raises:
        WeightsError: names or shapes differ from the network's; the message names the first one.
    """
    expected = network.state_dict()
    for name in [*expected, *tensors]:  # in order, so that the message is reproducible
        if name not in tensors:
            raise WeightsError(f"{file}: {name} is missing; is it the file of another network?")
        if name not in expected:
            raise WeightsError(f"{file}: unexpected {name}; is it the file of another network?")
        if tensors[name].shape != expected[name].shape:
            raise WeightsError(
                f"{file}: expected {name} of shape {tuple(expected[name].shape)}, "
                f"found {tuple(tensors[name].shape)}"
            )
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def _read(file: Path) -> object:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251  (restricted)


def _vgg16_layers() -> list[nn.Module]:
    """Build the convolutional part of VGG16 up to its last activation."""
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
    """Wrap weights under their published name, where an (inactive) dropout comes first."""
    return nn.ModuleDict({"model": nn.Sequential(nn.Identity(), weights)})


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _pad_with_white(rgb: np.ndarray) -> np.ndarray:
    """Pad images that are too small for the network with white, [T, h, w, 3]."""
    missing = [max(0, MIN_SIDE_PX - length) for length in rgb.shape[1:3]]
    return np.pad(rgb, [(0, 0), (0, missing[0]), (0, missing[1]), (0, 0)], constant_values=1.0)


def _raft_input(image: np.ndarray) -> Tensor:
    """Convert a gray image to three equal channels in [−1, 1], float32, [1, 3, h, w]."""
    batch = torch.from_numpy(padded(image, RAFT_MULTIPLE, RAFT_MIN_SIDE))
    return (2 * batch - 1).expand(1, 3, *batch.shape)
