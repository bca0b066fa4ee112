"""How large an object is beside the true one: images of another scale cannot align.

Letters: H × W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recon.grid import Camera
from recon.grid.cameras import common_focus
from recon.grid.source_camera import SourceCamera
from recon.metrics.image import SILHOUETTE

SAME_SIZE = 1.15  # factor by which silhouettes of objects that are only inaccurate may differ
ROUGH_SIZE = 1.25  # factor by which silhouettes of small, blurred objects mistake a scale
UNEXPLAINED = 2 / 3  # share of a difference of sizes that its cause may leave, in logarithms
SAME_SETUP = 0.01  # relative difference of distances and fields of view


def relative_size(alpha: np.ndarray, true_alpha: np.ndarray) -> float | None:
    """Return the square root of the ratio of the areas of two silhouettes.

    Args:
        alpha: alpha of an image, in [0, 1], [H, W].
        true_alpha: that of the true image.

    Returns:
        The factor, above 1 if the object is larger than the true one; None if there is no object in
        one of them.
    """
    area, true_area = (int((each > SILHOUETTE).sum()) for each in (alpha, true_alpha))
    return float(np.sqrt(area / true_area)) if area and true_area else None


def is_misaligned(size: float | None) -> bool:
    """Return whether a relative size, the median over images, shows another scale."""
    return size is not None and not 1 / SAME_SIZE <= size <= SAME_SIZE


def scale_advice(
    size: float | None,
    scale: float,
    cameras: Sequence[Camera] = (),
    true_cameras: Sequence[Camera] = (),
    source: SourceCamera | None = None,
) -> Iterator[str]:
    """Say what to do about an object of another size.

    Args:
        size: size of the object relative to the true one; None: not known.
        scale: factor by which its world was enlarged before.
        cameras: cameras of the views that a scene was fitted to; none: the object is a sequence of
            files, which can be aligned.
        true_cameras: those of the ground truth.
        source: camera of the video that the scene was made of; None: not known.

    Yields:
        Nothing if the sizes agree, else one sentence.
    """
    if size is None or not is_misaligned(size):
        return
    fitting = scale / size
    if not cameras:
        yield (
            f"--scale {fitting:.3g} makes the sizes agree, and --align also the places and the yaw"
        )
        return
    own, true = _distance_and_fov(cameras), _distance_and_fov(true_cameras)
    exact = true[0] / own[0]
    if source is not None:  # if the video is a view of the truth, the squares cut out of it count
        exact *= np.tan(np.radians(true[1] / 2)) / np.tan(np.radians(_fov_deg(source.camera) / 2))
    rest = abs(np.log(exact / fitting))
    explains = rest < min(np.log(ROUGH_SIZE), UNEXPLAINED * abs(np.log(size)))
    if explains and (source is not None or np.isclose(own[1], true[1], rtol=SAME_SETUP)):
        fitting = exact
    advice = f"--scale {fitting:.3g} makes the sizes agree"
    if source is None and not np.allclose(own, true, rtol=SAME_SETUP):
        advice += (
            f"; the scene was fitted to cameras of distance {own[0]:.3g} and field of view "
            f"{own[1]:.3g}°, those of the truth have {true[0]:.3g} and {true[1]:.3g}°: if its "
            f"grid is generated, generate it with --distance {true[0]:.3g} --fov {true[1]:.3g}"
        )
    yield advice


def _distance_and_fov(cameras: Sequence[Camera]) -> tuple[float, float]:
    """Return the median distance from the common focus, and the median field of view in degrees."""
    focus = common_focus(cameras)
    distances = [float(np.linalg.norm(camera.position - focus)) for camera in cameras]
    return float(np.median(distances)), float(np.median([_fov_deg(each) for each in cameras]))


def _fov_deg(camera: Camera) -> float:
    """Return the horizontal field of view in degrees."""
    return float(np.degrees(2 * np.arctan(camera.width / 2 / camera.fl_x)))
