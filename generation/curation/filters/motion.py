"""Motion scores of a grid, from the optical flow between the frames of a few views.

    motion      mean displacement of the object's pixels from one frame to the next, the upper
                quartile over the frames: an object that rests half of the time counts as moving,
                one that jumps once does not
    peak        95th percentile of the displacement of the object's pixels, in the fastest frame
    smoothness  mean displacement over two frames divided by the mean displacement over one frame:
                2 for steady motion, about 1 for flicker, jumps, or motion too fast for the frame
                rate

Displacements are per frame, as fractions of the diagonal of the object's bounding box in the view:
0.01 of a diagonal of 200 pixels is 2 pixels. All scores are means over the views. Four good assets
have motion 0.009–0.041, peak 0.04–0.08, smoothness 1.4–1.9; with shuffled frames 0.03–0.07,
0.07–0.14 and 0.85–1.4. At rest, a renderer's noise gives motion 0.0001–0.0006. Among 119 other
assets, steady motion has a smoothness of at least 1.18, too fast motion of at most 1.09.

Letters: T frames, h × w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from generation.curation.filters.clips import OPAQUE, Clip
from recon.errors import BackendError

SIDE_PX = 128
FRAME_QUANTILE = 0.75
PIXEL_QUANTILE = 0.95
MIN_RATIO_MOTION = 1e-4  # fraction of the diagonal below which smoothness would be noise

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Optical flow between two gray images in [0, 1], float32, [h, w].

It returns the displacement of each pixel of the first image in pixels, (x right, y down),
[h, w, 2]. Methods are `dis_flow` (OpenCV) and `networks.raft_flow` (RAFT).
"""


class Motion(NamedTuple):
    """The scores that the module docstring defines."""

    motion: float
    peak: float
    smoothness: float


STILL = Motion(motion=0.0, peak=0.0, smoothness=2.0)


def measure_motion(clips: Sequence[Clip | None], flow: Flow) -> Motion:
    """Measure the motion of a grid in some of its views.

    Args:
        clips: all frames of each view; None for an empty view.
        flow: optical flow method.

    Returns:
        The scores; `STILL` for a grid of one frame or without an object.
    """
    small = [clip.shrunk(SIDE_PX) for clip in clips if clip is not None and len(clip.alpha) > 1]
    if not small:
        return STILL
    means, peaks = np.mean([_displacements(clip, flow, 1) for clip in small], axis=0)
    smoothness = STILL.smoothness
    if len(means) > 1 and means.mean() > MIN_RATIO_MOTION:
        over_two = np.mean([_displacements(clip, flow, 2)[0] for clip in small], axis=0)
        smoothness = float(over_two.mean() / means.mean())
    return Motion(float(np.quantile(means, FRAME_QUANTILE)), float(peaks.max()), smoothness)


def dis_flow() -> Flow:
    """Return OpenCV's dense inverse search (DIS) as an optical flow method.

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
        pair = [padded(np.rint(255 * image).astype(np.uint8), 1, 32) for image in (first, second)]
        found = method.calc(pair[0], pair[1], None)  # type: ignore[call-overload]
        return np.asarray(found)[: first.shape[0], : first.shape[1]]

    return flow


def padded(image: np.ndarray, multiple: int, min_side: int) -> np.ndarray:
    """Pad with the last row and column to sides of at least `min_side`, multiples of `multiple`."""
    missing = [max(-(-length // multiple) * multiple, min_side) - length for length in image.shape]
    return np.pad(image, [(0, count) for count in missing], mode="edge")


def _displacements(clip: Clip, flow: Flow, step: int) -> np.ndarray:
    """Compute mean and peak displacement from each frame to `step` later, [2, T − step]."""
    gray, alpha = clip.gray, clip.alpha
    found = np.zeros((2, len(gray) - step))
    for frame in range(len(gray) - step):
        shown = alpha[frame] >= OPAQUE
        if shown.any():
            displacement = flow(gray[frame], gray[frame + step])[shown]
            length = np.linalg.norm(displacement, axis=-1) / clip.diagonal_px
            found[:, frame] = length.mean(), np.quantile(length, PIXEL_QUANTILE)
    return found
