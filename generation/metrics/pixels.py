"""Preparation of images for the networks of metrics, as the field's scripts do it, by Pillow.

Letters: H × W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIDE_PX = 512  # of the images whose LPIPS and CLIP-S the literature reports


def quantized(image: np.ndarray) -> np.ndarray:
    """Round an image in [0, 1] to 8 bits, as it would be written to a file, [H, W, 3]."""
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8)


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """Resize an 8-bit image with Pillow's bicubic filter to side × side, uint8, [s, s, 3]."""
    if image.shape[:2] == (side, side):
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def resized_in_floats(image: np.ndarray, side: int) -> np.ndarray:
    """Resize the channels of an image as floats, without rounding or clipping, [s, s, 3]."""
    channels = [
        Image.fromarray(channel.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def batch_of(image: np.ndarray) -> Tensor:
    """Convert an image [H, W, 3] to a batch of one, float32, [1, 3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)[None])).float()
