"""Lens distortion: images of real lenses resampled to those of a pinhole camera.

    perspective   x_d = x (1 + k1 r² + k2 r⁴ + k3 r⁶) / (1 + k4 r² + k5 r⁴ + k6 r⁶), and p1, p2
    fisheye       θ_d = θ (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸) with the angle θ to the optical axis

OpenCV (extra `[undistort]`) evaluates both.
Source: docs.opencv.org/4.x, modules calib3d and calib3d_fisheye.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon.errors import GridError
from recon.grid.cameras import Camera


@dataclass(frozen=True)
class Distortion:
    """Distortion of a lens, as a change of the coordinates of a pinhole image.

    Attributes:
        coefficients: k1 k2 p1 p2 k3 k4 k5 k6, or k1 k2 k3 k4 of a fisheye.
        fisheye: whether the model is that of a fisheye.
    """

    coefficients: tuple[float, ...]
    fisheye: bool = False


def undistort(image: np.ndarray, camera: Camera, distortion: Distortion) -> np.ndarray:
    """Resample an image to that of the pinhole camera with the same intrinsics.

    Args:
        image: RGBA, straight alpha, uint8, [H, W, 4].
        camera: camera of the image; its intrinsics are those of both images.
        distortion: lens of the camera.

    Returns:
        The image without distortion, uint8, [H, W, 4]; alpha is 0 where the lens saw nothing.

    Raises:
        GridError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise GridError(
            "the images have lens distortion, which needs OpenCV to remove; install the extra "
            "[undistort] (opencv-python-headless), or undistort the images first"
        ) from error
    K = camera.K - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]  # OpenCV's first pixel is at (0, 0)
    size = (camera.width, camera.height)
    coefficients = np.asarray(distortion.coefficients, dtype=np.float64)
    maps = (
        cv2.fisheye.initUndistortRectifyMap(K, coefficients, np.eye(3), K, size, cv2.CV_32FC1)
        if distortion.fisheye
        else cv2.initUndistortRectifyMap(K, coefficients, np.eye(3), K, size, cv2.CV_32FC1)
    )
    values = image.astype(np.float32)
    values[..., :3] *= values[..., 3:] / 255  # interpolation mixes premultiplied colors
    values = cv2.remap(values, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    values[..., :3] /= np.maximum(values[..., 3:] / 255, 1e-6)
    return np.rint(values).clip(0, 255).astype(np.uint8)
