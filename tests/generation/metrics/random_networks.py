"""Random weights and images, the same for the networks of metrics and for their references.

Needs only numpy and torch, because `make_references` runs where this project is not installed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

# Convolutions of torchvision's networks: index among `features`, output channels, kernel.
VGG = (
    (0, 64, 3), (2, 64, 3), (5, 128, 3), (7, 128, 3), (10, 256, 3), (12, 256, 3), (14, 256, 3),
    (17, 512, 3), (19, 512, 3), (21, 512, 3), (24, 512, 3), (26, 512, 3), (28, 512, 3),
)  # fmt: skip
ALEX = ((0, 64, 11), (3, 192, 5), (6, 384, 3), (8, 256, 3), (10, 256, 3))
HEADS = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}
CLIP_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "patch_size": 32,
    "image_size": 224,
    "projection_dim": 16,
    "hidden_act": "quick_gelu",
}


def images(count: int = 3, side: int = 64) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of 8-bit images [side, side, 3]: coarse noise, and the same with an error."""
    rng = np.random.default_rng(7)
    pairs = []
    for number in range(count):
        coarse = rng.integers(0, 256, (side // 8, side // 8, 3))
        image = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)
        noise = rng.integers(-20 * (number + 1), 20 * (number + 1) + 1, image.shape)
        pairs.append((np.clip(image + noise, 0, 255).astype(np.uint8), image.astype(np.uint8)))
    return pairs


def lpips_tensors(backbone: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Features and heads under the names of the published files."""
    generator = torch.Generator().manual_seed(0)
    features, heads, channels = {}, {}, 3
    for index, width, kernel in VGG if backbone == "vgg" else ALEX:
        weight = torch.randn(width, channels, kernel, kernel, generator=generator)
        features[f"features.{index}.weight"] = weight * (2 / (kernel**2 * channels)) ** 0.5
        features[f"features.{index}.bias"] = 0.1 * torch.randn(width, generator=generator)
        channels = width
    for layer, width in enumerate(HEADS[backbone]):
        heads[f"lin{layer}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=generator)
    return features, heads


def random_state(shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Values for a state dict: weights that keep the scale, variances around 1."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name in sorted(shapes):
        shape = shapes[name]
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros(shape, dtype=torch.long)
            continue
        value = torch.randn(shape, generator=generator)
        if name.endswith("running_var"):
            value = 1 + 0.1 * value.abs()
        elif name.endswith("bn.weight"):
            value = 1 + 0.1 * value
        elif len(shape) > 1:
            value = value * (2 / value[0].numel()) ** 0.5
        else:
            value = 0.1 * value
        state[name] = value
    return state


def video(T: int) -> Tensor:
    """A video in [−1, 1], [1, 3, T, 224, 224]."""
    generator = torch.Generator().manual_seed(T)
    coarse = torch.rand(1, 3, T, 28, 28, generator=generator)
    return 2 * coarse.repeat_interleave(8, dim=3).repeat_interleave(8, dim=4) - 1


def features(seed: int, count: int) -> np.ndarray:
    """Logits of videos, float32, [count, 400]."""
    rng = np.random.default_rng(seed)
    return rng.normal(seed % 3, 1 + seed % 2, (count, 400)).astype(np.float32)
