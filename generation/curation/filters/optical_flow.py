"""Optical flow between two small grey images: where each pixel of the first has gone in the second.

DIS, a classical method, is OpenCV's; RAFT is a network of torchvision, whose published weights the
user hands over. Both are seen as `Flow`: two images in, displacements in pixels out. Letters:
h × w pixels. What it does not know: objects.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import BackendError

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(first, second), grey in [0, 1], float32, [h, w] → (x right, y down) in pixels, [h, w, 2]."""

RAFT_MULTIPLE = 8
RAFT_LEAST_SIDE = 128  # its coarsest correlations are of 1/64 of the resolution


def dis_flow() -> Flow:
    """Dense inverse search of OpenCV.

    Raises:
        BackendError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise BackendError(
            "optical flow needs OpenCV; install it with `pip install 'fourdvd[data]'`"
        ) from error
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        pair = [_padded(np.rint(255 * image).astype(np.uint8), 1, 32) for image in (first, second)]
        found = method.calc(pair[0], pair[1], None)  # type: ignore[call-overload]
        return np.asarray(found)[: first.shape[0], : first.shape[1]]

    return flow


@lru_cache(maxsize=1)
def raft_flow(file: Path) -> Flow:
    """RAFT (large) with weights as torchvision publishes them; kept, once loaded.

    Args:
        file: `raft_large_*.pth`, or its tensors as safetensors.

    Raises:
        BackendError: torchvision is not installed or does not fit torch.
        WeightsError: the file holds other tensors.
    """
    import torch

    try:
        from torchvision.models.optical_flow import (  # pyright: ignore[reportMissingImports]
            raft_large,
        )
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise BackendError(
            f"RAFT needs a torchvision that fits torch {torch.__version__} ({error}); "
            "`pip install torchvision`"
        ) from error
    from generation.curation.filters.published_tensors import load_into, read_tensors

    network = load_into(raft_large(), read_tensors(file), file)

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        pair = [_as_raft_takes_it(image) for image in (first, second)]
        with torch.inference_mode():
            found: Any = network(*pair)[-1][0]
        return found.permute(1, 2, 0).numpy()[: first.shape[0], : first.shape[1]]

    return flow


def _as_raft_takes_it(image: np.ndarray) -> Any:
    """Three equal channels in [−1, 1], float32, [1, 3, h, w]."""
    import torch

    padded = torch.from_numpy(_padded(image, RAFT_MULTIPLE, RAFT_LEAST_SIDE))
    return (2 * padded - 1).expand(1, 3, *padded.shape)


def _padded(image: np.ndarray, multiple: int, least: int) -> np.ndarray:
    """The image with its last row and column repeated up to a size that a method can take."""
    missing = [max(-(-length // multiple) * multiple, least) - length for length in image.shape]
    return np.pad(image, [(0, count) for count in missing], mode="edge")
