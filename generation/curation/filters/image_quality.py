"""Is there an object to be seen, sharp and of one piece? Five numbers, without any network.

The paper rejects "blurry or chaotic" content by LPIPS, without saying between which images. Here an
image is compared with itself at a quarter of its resolution, within the box of the object: what a
picture loses so is its detail. A flat-colored low-poly model has little texture and is fine, so
nothing asks for much detail on the whole; its outline and edges are sharp, which is what is asked.

    coverage   the least share of an image that the object fills, over the frames: 0 where it is
               gone for a moment, and the first frame of training must show it
    cut_off    share of the images in which the object reaches the border: it was cropped
    sharpness  the detail of its sharpest places, relative to the contrast: small for fog, glow,
               smoke and images that are out of focus
    clutter    the detail on the whole, likewise: large for clouds of fragments
    grain      what a 3×3 median takes away inside the object: large for noise, not for texture,
               which changes over more than one pixel

Measured on the grids of four good assets and on spoilt copies of them:

                good         blurred by σ = 1/64 of the image   noise of σ = 0.3
    sharpness   0.41–0.50    0.19–0.23                          0.41–0.51
    clutter     0.10–0.13    0.05–0.08                          0.12–0.15
    grain       0.003–0.018  0.000–0.003                        0.11–0.14

Of 119 other assets at 128², sharpness is 0.31–0.60, clutter 0.07–0.20 (the thinner the object) and
grain 0.001–0.044 (a zebra). Clouds of small squares have a clutter of 0.18–0.21: only finer ones
can be told from limbs by it.

Letters: T frames, h × w pixels. What it does not know: what the object is; motion.
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
SHARPEST = 0.98  # quantile: an outline alone is some 5 % of the pixels
NEAR_PX = 3  # around the object, so that the outline counts


class ImageQuality(NamedTuple):
    """What the module says of them; shares and differences of luminance in [0, 1]."""

    coverage: float
    cut_off: float
    sharpness: float
    clutter: float
    grain: float


NOTHING_SEEN = ImageQuality(coverage=0.0, cut_off=0.0, sharpness=0.0, clutter=0.0, grain=0.0)


def measure_quality(clips: Sequence[Clip | None]) -> ImageQuality:
    """Measures some views, all of one grid.

    Args:
        clips: all frames of each view; None for a view that shows nothing.
    """
    seen = [clip for clip in clips if clip is not None]
    if not seen:
        return NOTHING_SEEN
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
    """An image at a quarter of its resolution, brought back to its size; float32, [h, w]."""
    height, width = image.shape
    small = Image.fromarray(np.ascontiguousarray(image)).resize(
        (max(1, width // COARSER), max(1, height // COARSER)), Image.Resampling.BOX
    )
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def _detail(clip: Clip) -> tuple[float, float]:
    """Sharpness and clutter, mean over the frames that show the object."""
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
    """Mean over the frames; 0 for an object without an inside."""
    found = []
    for gray, alpha in zip(clip.gray, clip.alpha, strict=True):
        inside = ndimage.binary_erosion(alpha > 0.99, iterations=2)
        if inside.any():
            found.append(np.abs(gray - ndimage.median_filter(gray, 3))[inside].mean())
    return float(np.mean(found)) if found else 0.0
