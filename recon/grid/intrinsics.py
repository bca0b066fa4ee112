"""Intrinsics of cameras in JSON, under the keys of nerfstudio, instant-ngp, COLMAP and others.

    fl_x fl_y cx cy w h (pixels) · camera_angle_x camera_angle_y (radians) · x_fov y_fov (degrees)
    K (3×3) · camera_model is_fisheye k1 k2 k3 k4 k5 k6 p1 p2 distortion_params

Pixel coordinates: the center of the first pixel is at (0.5, 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recon.grid.cameras import Camera
from recon.grid.lens import Distortion

PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
FISHEYE = ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
NAMES = {
    "fx": "fl_x", "fy": "fl_y", "width": "w", "height": "h",
    "image_width": "w", "image_height": "h", "intrinsic_matrix": "K",
}  # fmt: skip
FOCAL = {
    "x": ("fl_x", "camera_angle_x", "x_fov"),
    "y": ("fl_y", "camera_angle_y", "y_fov"),
}  # the first one given counts
COEFFICIENTS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
NERFSTUDIO_PARAMS = ("k1", "k2", "k3", "k4", "p1", "p2")  # order of `distortion_params`
MAX_ASPECT_ERROR_PX = 1.0  # programs that scale images round their sides up or down


@dataclass(frozen=True)
class Intrinsics:
    """The intrinsics that a JSON states; any of them may be missing.

    Attributes:
        values: `fl_x`, `fl_y`, `cx`, `cy`, `w` and `h` in pixels, `camera_angle_x` and
            `camera_angle_y` in radians.
        distortion: lens distortion; None for a pinhole.
    """

    values: Mapping[str, float]
    distortion: Distortion | None = None

    def camera(self, pose: np.ndarray, height: int, width: int) -> Camera:
        """Make the camera of an image of known size.

        If the JSON states another size of the same shape, the images were scaled, and the
        intrinsics are scaled alike.

        Args:
            pose: camera-to-world, OpenGL axes, [4, 4].
            height: height of the image in pixels.
            width: width of the image in pixels.

        Raises:
            ValueError: the stated size has another shape than the image, or there is no focal
                length.
        """
        values = self.values
        stated_w, stated_h = values.get("w", width), values.get("h", height)
        _check_shape((stated_w, stated_h), (width, height))
        focal_x = _focal(values, "x", stated_w)
        focal_y = _focal(values, "y", stated_h)
        if focal_x is None and focal_y is None:
            raise ValueError("expected `fl_x`, `camera_angle_x` or `K`, found none of them")
        fl_x, fl_y = focal_x or focal_y, focal_y or focal_x
        assert fl_x is not None and fl_y is not None
        sx, sy = width / stated_w, height / stated_h
        return Camera(
            pose,
            fl_x * sx,
            fl_y * sy,
            values.get("cx", stated_w / 2) * sx,
            values.get("cy", stated_h / 2) * sy,
            width,
            height,
        )


def parse_intrinsics(values: Mapping[str, Any], shared: Mapping[str, Any]) -> Intrinsics:
    """Read the intrinsics of an image.

    Args:
        values: JSON object of the image.
        shared: JSON object of all images, for what `values` does not have.

    Raises:
        ValueError: a value is not valid, or the camera model is not supported.
    """
    own, common = _canonical(values), _canonical(shared)
    for keys in FOCAL.values():  # an angle of its own replaces a shared focal length, too
        if any(key in own for key in keys):
            common = {key: value for key, value in common.items() if key not in keys}
    merged = common | own
    found = {key: number(merged, key) for key in ("cx", "cy") if key in merged}
    for key in ("w", "h", *FOCAL["x"], *FOCAL["y"]):
        if key in merged:
            found[key] = _positive(merged, key)
    for axis in "xy":
        if f"{axis}_fov" in found:
            found.setdefault(f"camera_angle_{axis}", math.radians(found.pop(f"{axis}_fov")))
        if found.get(f"camera_angle_{axis}", 1.0) >= math.pi:
            raise ValueError(
                f"`camera_angle_{axis}` must be below π radians, found "
                f"{found[f'camera_angle_{axis}']}"
            )
    return Intrinsics(found, _distortion(merged))


def number(values: Mapping[str, Any], key: str, default: float = 0.0) -> float:
    """Return a finite number of a JSON object.

    Raises:
        ValueError: it is not a finite number.
    """
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"`{key}` must be a finite number, found {value!r}")
    return float(value)


def _canonical(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of other programs, and split `K` and `distortion_params`."""
    named = {NAMES.get(key, key): value for key, value in values.items()}
    if isinstance(named.get("K"), list):
        named |= _from_matrix(named["K"])
    if "distortion_params" in named:
        params = named["distortion_params"]
        if not isinstance(params, list) or len(params) != len(NERFSTUDIO_PARAMS):
            raise ValueError(
                f"expected `distortion_params` as a list of {', '.join(NERFSTUDIO_PARAMS)}, found "
                f"{params!r}"
            )
        named |= dict(zip(NERFSTUDIO_PARAMS, params, strict=True))
    return named


def _from_matrix(matrix: list[Any]) -> dict[str, float]:
    """Split an intrinsic matrix, [3, 3], [4, 4] or 9 numbers by rows or by columns."""
    K = np.asarray(matrix, dtype=np.float64)
    K = K.reshape(3, 3) if K.shape == (9,) else K
    if K.shape not in ((3, 3), (4, 4)) or not np.isfinite(K).all():
        raise ValueError(f"expected `K` as a 3×3 matrix of finite numbers, found {matrix!r}")
    K = K[:3, :3]
    if K[2, :2].any() and not K[:2, 2].any():
        K = K.T
    if K[2, :2].any() or K[2, 2] == 0:
        raise ValueError(f"expected `K` with a last row of 0 0 1, found {K[2].tolist()}")
    K = K / K[2, 2]
    if abs(K[0, 1]) > 1e-3 * abs(K[0, 0]) or K[1, 0] != 0:
        raise ValueError(f"expected `K` without skew, found {K[0, 1]:g} and {K[1, 0]:g}")
    return {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}


def _distortion(values: Mapping[str, Any]) -> Distortion | None:
    model = values.get("camera_model", "FISHEYE" if values.get("is_fisheye") else "PINHOLE")
    is_fisheye = bool(values.get("is_fisheye")) or model in FISHEYE
    if not is_fisheye and model not in PERSPECTIVE:
        raise ValueError(
            f"expected the camera model PINHOLE, OPENCV or OPENCV_FISHEYE, found {model!r}; "
            "undistort the images to a pinhole camera first"
        )
    given = {key: number(values, key) for key in COEFFICIENTS}
    if is_fisheye:
        _refuse(given, ("k5", "k6", "p1", "p2"), "a fisheye has k1 to k4 only")
        return Distortion(tuple(given[key] for key in ("k1", "k2", "k3", "k4")), fisheye=True)
    if model != "FULL_OPENCV":
        _refuse(given, ("k4", "k5", "k6"), "only the camera model FULL_OPENCV has them")
    if not any(given.values()):
        return None
    order = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    return Distortion(tuple(given[key] for key in order))


def _refuse(given: Mapping[str, float], keys: tuple[str, ...], why: str) -> None:
    found = [key for key in keys if given[key] != 0]
    if found:
        raise ValueError(
            f"lens distortion {', '.join(found)} is not supported here ({why}); undistort the "
            "images to a pinhole camera first"
        )


def _focal(values: Mapping[str, float], axis: str, side: float) -> float | None:
    """Return the focal length along an axis in pixels of the stated size; None if not given."""
    if f"fl_{axis}" in values:
        return values[f"fl_{axis}"]
    angle = values.get(f"camera_angle_{axis}")
    return None if angle is None else side / 2 / math.tan(angle / 2)


def _check_shape(stated: tuple[float, float], found: tuple[int, int]) -> None:
    """Check that an image has the stated size, or is a scaled copy of it."""
    scale = max(found[0] / stated[0], found[1] / stated[1])
    error = max(abs(scale * stated[0] - found[0]), abs(scale * stated[1] - found[1]))
    if error > MAX_ASPECT_ERROR_PX + 1e-6:
        raise ValueError(
            f"expected an image of {stated[0]:g}×{stated[1]:g} pixels (`w`, `h`) or of the same "
            f"shape, found {found[0]}×{found[1]}; it was cropped or turned after the cameras were "
            "estimated"
        )


def _positive(values: Mapping[str, Any], key: str) -> float:
    value = number(values, key)
    if value <= 0:
        raise ValueError(f"`{key}` must be positive, found {value}")
    return value
