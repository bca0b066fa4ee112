"""Layers of simple solids, computed with formulas, and images of their silhouettes."""

from __future__ import annotations

import numpy as np

from generation.surface_layers import SurfaceLayers
from recon.grid import Camera, orbit_camera

FRONT_COLOR, BACK_COLOR = (200, 80, 40), (30, 90, 160)


def camera(size: int, azimuth_deg: float = 0.0, elevation_deg: float = 0.0) -> Camera:
    """A camera like those of generated grids."""
    return orbit_camera(azimuth_deg, elevation_deg, 3.2, 33.8, size, size)


def layers_of(depths: list[np.ndarray]) -> SurfaceLayers:
    """Layers of two or four depths [h, w], NaN where the ray meets nothing."""
    front, back = depths[0].copy(), depths[-1].copy()
    mask = ~np.isnan(front)
    gap = np.zeros(mask.shape, np.bool_)
    middle = (front + back) / 2
    inner = [middle, middle.copy()]
    if len(depths) == 4:
        gap = ~np.isnan(depths[1])
        for layer, depth in zip(inner, depths[1:3], strict=True):
            layer[gap] = depth[gap]
    depth = np.nan_to_num(np.stack([front, *inner, back])).astype(np.float32)
    color = np.zeros((*depth.shape, 3), np.uint8)
    color[::2], color[1::2] = FRONT_COLOR, BACK_COLOR
    color[:, ~mask] = 0
    return SurfaceLayers(depth, color, mask, gap)


def ball_depths(size: int, radius: float, center: tuple[float, float, float] = (0, 0, 0)):
    """Depths of a ball along the rays of `camera(size)`, NaN where they miss it."""
    eye = camera(size)
    pixels = (np.arange(size) + 0.5 - eye.cx) / eye.fl_x
    rays = np.stack(np.broadcast_arrays(pixels, pixels[:, None], 1.0), -1)
    middle = eye.viewmat[:3, :3] @ center + eye.viewmat[:3, 3]
    along, length = rays @ middle, (rays**2).sum(-1)
    root = along**2 - length * (middle @ middle - radius**2)
    with np.errstate(invalid="ignore"):
        return [(along - np.sqrt(root)) / length, (along + np.sqrt(root)) / length]


def ball_image(size: int, radius: float, center: tuple[float, float, float] = (0, 0, 0)):
    """The ball's image with exact coverage, RGBA [size, size, 4]."""
    fine = ~np.isnan(ball_depths(8 * size, radius, center)[0])
    image = np.zeros((size, size, 4), np.uint8)
    image[..., 3] = np.rint(255 * fine.reshape(size, 8, size, 8).mean((1, 3)))
    image[image[..., 3] > 0, :3] = FRONT_COLOR
    return image


def solid_image(mask: np.ndarray) -> np.ndarray:
    """An opaque image of a mask, every pixel with another color."""
    image = np.zeros((*mask.shape, 4), np.uint8)
    row, column = np.nonzero(mask)
    image[row, column] = np.stack([row, column, (row + column) % 256, 0 * row + 255], 1)
    return image
