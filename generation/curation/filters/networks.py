"""Published networks that measure images: LPIPS with VGG16 features, and RAFT optical flow.

Their weights are not bundled: the user passes torchvision's `vgg16-*.pth`, the `vgg.pth` of LPIPS
0.1 and torchvision's `raft_large_*.pth`. LPIPS compares an image with itself at a quarter of its
resolution, as `image_quality` does; no default threshold fits every data set.

Letters: T frames, h × w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from generation.curation.filters.clips import Clip, evenly
from generation.curation.filters.image_quality import coarsened
from generation.curation.filters.motion import Flow, padded
from generation.metrics.lpips import Lpips
from generation.weights.tensors import load_into, read_tensors
from recon.errors import BackendError

SIDE_PX = 128
MIN_SIDE_PX = 32  # VGG16 halves the resolution four times before its last layers
IMAGES_PER_VIEW = 2
RAFT_MULTIPLE = 8
RAFT_MIN_SIDE = 128  # its coarsest correlation volume has 1/64 of the resolution


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


def _pad_with_white(rgb: np.ndarray) -> np.ndarray:
    """Pad images that are too small for the network with white, [T, h, w, 3]."""
    missing = [max(0, MIN_SIDE_PX - length) for length in rgb.shape[1:3]]
    return np.pad(rgb, [(0, 0), (0, missing[0]), (0, missing[1]), (0, 0)], constant_values=1.0)


def _raft_input(image: np.ndarray) -> Tensor:
    """Convert a gray image to three equal channels in [−1, 1], float32, [1, 3, h, w]."""
    batch = torch.from_numpy(padded(image, RAFT_MULTIPLE, RAFT_MIN_SIDE))
    return (2 * batch - 1).expand(1, 3, *batch.shape)
