"""Drawing of lifted surfaces: anti-aliased images over a transparent background.

Letters: V views, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from generation.lift.surface import LiftedSurface
from recon.grid import Camera
from recon.native.mesh import NO_SHADOWS, SURFACE, NativeMesh, PixelFilter, image_from_world
from recon.srgb import linear_from_srgb

SUBPIXELS = 3  # along a pixel
_PAINTED = np.array([((1, 1, 1, 1), (0, 0, 0), -1, -1, 0, -1, 0, -1, 1, 0, 0)], SURFACE)


def draw(surface: LiftedSurface, cameras: Sequence[Camera]) -> np.ndarray:
    """Draw a surface from all cameras: sRGB with straight alpha, uint8, [V, H, W, 4].

    Args:
        surface: surface of one frame.
        cameras: V cameras of one image size.

    Raises:
        BackendError: the kernels are not built.
    """
    shape = cameras[0].height, cameras[0].width
    assert all((camera.height, camera.width) == shape for camera in cameras)
    if len(surface.triangles) == 0:
        return np.zeros((len(cameras), *shape, 4), np.uint8)
    colors = np.ones((*surface.triangles.shape, 4), np.float32)
    colors[..., :3] = linear(surface.colors)[surface.triangles]
    mesh = NativeMesh(surface.vertices, surface.triangles, colors=colors, surfaces=_PAINTED)
    pixel_filter = box_filter(SUBPIXELS)
    matrices = np.stack([image_from_world(camera, SUBPIXELS) for camera in cameras])
    return mesh.images(matrices, shape, pixel_filter, NO_SHADOWS, 0.0, 0.0)


def box_filter(subsamples: int) -> PixelFilter:
    """Return the filter that averages the samples of a pixel."""
    return PixelFilter(subsamples, 0, np.full(subsamples, 1 / subsamples, np.float32))


def linear(srgb: np.ndarray) -> np.ndarray:
    """Decode sRGB, uint8, of any shape, to linear light in [0, 1], float32."""
    return linear_from_srgb(np.arange(256) / 255).astype(np.float32)[srgb]
