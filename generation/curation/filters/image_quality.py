"""Image quality without a network: coverage, sharpness, clutter and noise of the object.

The paper rejects "blurry or chaotic" content by LPIPS, without saying between which images. Here an
image is compared with itself at a quarter of its resolution, within the object's bounding box; the
absolute difference is called detail. A low-poly model has little texture and is acceptable, so
there is no minimum of the mean detail; but its outline and edges must be sharp.

    coverage   fraction of an image that the object covers, the minimum over the frames; 0 if the
               object is invisible in some frame
    cut_off    fraction of the images in which the object reaches the border
    sharpness  detail of the sharpest pixels, relative to the contrast; small for fog, glow, smoke
               and defocus
    clutter    mean detail, relative to the contrast; large for clouds of fragments
    grain      mean change by a 3×3 median filter inside the object; large for noise, but not for
               texture, which varies over more than one pixel

Measured on the grids of four good assets and on degraded copies of them:

                good         blurred by σ = 1/64 of the image   noise of σ = 0.3
    sharpness   0.41–0.50    0.19–0.23                          0.41–0.51
    clutter     0.10–0.13    0.05–0.08                          0.12–0.15
    grain       0.003–0.018  0.000–0.003                        0.11–0.14

For 119 other assets at 128², sharpness is 0.31–0.60, clutter 0.07–0.20 (higher for thin objects)
and grain 0.001–0.044 (a zebra). Clouds of small squares have a clutter of 0.18–0.21, so clutter
distinguishes only finer fragments from thin limbs.

Letters: T frames, h × w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from generation.curation.filters.clips import OPAQUE, Clip, evenly

IMAGES_OF_A_VIEW = 4
DETAIL_SIDE_PX = 64
GRAIN_SIDE_PX = 192
COARSER = 4
SHARPEST = 0.98  # quantile of the sharpest pixels; an outline alone is about 5 % of the pixels
NEAR_PX = 3  # margin around the object, which includes its outline


class ImageQuality(NamedTuple):
    """The scores that the module docstring defines, in [0, 1]."""

    coverage: float
    cut_off: float
    sharpness: float
    clutter: float
    grain: float


NO_OBJECT = ImageQuality(coverage=0.0, cut_off=0.0, sharpness=0.0, clutter=0.0, grain=0.0)


def measure_quality(clips: Sequence[Clip | None]) -> ImageQuality:
    """Measure the image quality of a grid in some of its views.

    Args:
        clips: all frames of each view; None for an empty view.
    """
    seen = [clip for clip in clips if clip is not None]
    if not seen:
        return NO_OBJECT
    coverage = np.sum([clip.coverage for clip in seen], axis=0) / len(clips)
    chosen = [clip.at(evenly(len(clip.alpha), IMAGES_OF_A_VIEW)) for clip in seen]
    details = np.array([_detail(clip.shrunk(DETAIL_SIDE_PX)) for clip in chosen])
    return ImageQuality(
        coverage=float(coverage.min()),
        cut_off=float(np.mean([clip.touches_border for clip in seen])),
        sharpness=float(details[:, 0].mean()),
        clutter=float(details[:, 1].mean()),
        grain=float(np.mean([_grain(clip.shrunk(GRAIN_SIDE_PX)) for clip in chosen])),
    )


def coarsened(image: np.ndarray) -> np.ndarray:
    """Downsample an image to a quarter of its resolution and upsample it again, float32, [h, w]."""
    height, width = image.shape
    small = Image.fromarray(np.ascontiguousarray(image)).resize(
        (max(1, width // COARSER), max(1, height // COARSER)), Image.Resampling.BOX
    )
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def _detail(clip: Clip) -> tuple[float, float]:
    """Sharpness and clutter, averaged over the frames that show the object."""
    found = []
    for gray, alpha in zip(clip.gray, clip.alpha, strict=True):
        near = ndimage.binary_dilation(alpha >= OPAQUE, iterations=NEAR_PX)
        if near.any():
            low, high = np.quantile(gray[near], (1 - SHARPEST, SHARPEST))
            lost = np.abs(gray - coarsened(gray))[near] / max(high - low, 1e-3)
            found.append((np.quantile(lost, SHARPEST), lost.mean()))
    sharpness, clutter = np.mean(found, axis=0) if found else (0.0, 0.0)
    return float(sharpness), float(clutter)


def _grain(clip: Clip) -> float:
    """Grain, averaged over the frames; 0 for an object without an interior."""
    found = []
    for gray, alpha in zip(clip.gray, clip.alpha, strict=True):
        inside = ndimage.binary_erosion(alpha > 0.99, iterations=2)
        if inside.any():
            found.append(np.abs(gray - ndimage.median_filter(gray, 3))[inside].mean())
    return float(np.mean(found)) if found else 0.0
