"""The images of a grid at several sizes, for coarse-to-fine fitting.

Letters: M images, H × W pixels. Alpha is straight; images are resized by averaging premultiplied
colors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recon.grid.cameras import Camera
from recon.grid.grid import Grid
from recon.grid.image_storage import empty_images
from recon.rendering import camera_tensors

BOX_MARGIN = 0.03  # around the object, as a fraction of the longer image edge


@dataclass(frozen=True)
class ImageLevel:
    """All images of a grid at one size.

    Attributes:
        images: RGBA, uint8, straight alpha, [M, H, W, 4].
        cameras: the camera of each image, M of them.
        viewmats: their world-to-camera matrices, float32, [M, 4, 4].
        Ks: their intrinsic matrices, float32, [M, 3, 3].
        boxes: bounding box of the object with a margin, x0, y0, x1, y1, half open, int32, [M, 4].
        height: image height H in pixels.
        width: image width W in pixels.
    """

    images: Tensor
    cameras: list[Camera]
    viewmats: Tensor
    Ks: Tensor
    boxes: Tensor
    height: int
    width: int


class ImagePyramid:
    """Resized images of a grid, computed on first use.

    Args:
        grid: posed images.
        device: device of the image tensors.
    """

    def __init__(self, grid: Grid, device: str = "cpu"):
        self._grid, self._device = grid, device
        self._levels: dict[int, ImageLevel] = {}

    def level(self, size: int) -> ImageLevel:
        """Return the images with a longer edge of `size` pixels; they are never enlarged."""
        longer = max(self._grid.height, self._grid.width)
        size = min(size, longer)
        if size not in self._levels:
            height, width = (
                max(1, round(edge * size / longer))
                for edge in (self._grid.height, self._grid.width)
            )
            self._levels[size] = self._make(height, width)
        return self._levels[size]

    def _make(self, height: int, width: int) -> ImageLevel:
        grid = self._grid
        images = torch.from_numpy(np.ascontiguousarray(grid.images))
        if (height, width) != (grid.height, grid.width):
            small = torch.from_numpy(empty_images((len(images), height, width, 4)))
            for target, image in zip(small, images, strict=True):
                target.copy_(_shrink(image, height, width))
            images = small
        resized = [camera.resized(height, width) for camera in grid.cameras]
        cameras = [resized[view] for view in grid.view]
        images, boxes = images.to(self._device), object_boxes(images)
        viewmats, Ks = camera_tensors(resized, torch.zeros((), device=self._device))
        views = torch.from_numpy(grid.view).to(self._device)
        return ImageLevel(images, cameras, viewmats[views], Ks[views], boxes, height, width)


def _shrink(image: Tensor, height: int, width: int) -> Tensor:
    straight = image.permute(2, 0, 1).float() / 255
    premultiplied = torch.cat([straight[:3] * straight[3:], straight[3:]])
    small = F.adaptive_avg_pool2d(premultiplied, (height, width))
    small[:3] /= small[3:].clamp_min(1e-6)
    return (small.permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8)


def object_boxes(images: Tensor) -> Tensor:
    """Return the boxes around non-zero alpha with a margin, int32, [M, 4]; 0 for empty images.

    Args:
        images: RGBA, uint8, [M, H, W, 4].
    """
    height, width = images.shape[1:3]
    margin = max(2, round(BOX_MARGIN * max(height, width)))
    boxes = torch.zeros(len(images), 4, dtype=torch.int32)
    for box, image in zip(boxes, images, strict=True):
        rows = image[..., 3].amax(1).nonzero()
        columns = image[..., 3].amax(0).nonzero()
        if len(rows) == 0:
            continue
        box[0] = max(0, int(columns[0]) - margin)
        box[1] = max(0, int(rows[0]) - margin)
        box[2] = min(width, int(columns[-1]) + 1 + margin)
        box[3] = min(height, int(rows[-1]) + 1 + margin)
    return boxes
