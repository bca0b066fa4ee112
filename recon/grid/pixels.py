"""From the files of a grid's images to one array: alpha, lens distortion, padding to one size.

    files ─▶ RGBA by size ─▶ mask, or background of one color ─▶ undistorted ─▶ padded

Letters: M images, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from recon.errors import GridError
from recon.grid.cameras import Camera, pad_offsets
from recon.grid.cut_out import with_alpha, with_mask
from recon.grid.image_storage import empty_images
from recon.grid.lens import Distortion, undistort

MAX_GRID_BYTES = 8 * 2**30


@dataclass(frozen=True)
class ImageSource:
    """Images of one camera that are read together: a file, or the frames of a clip.

    Attributes:
        size: height and width in pixels.
        read: reads the images, uint8, [count, H, W, 3 or 4].
        count: number of images.
        read_masks: reads their masks, see `with_mask`, uint8, [count, h, w, 4]; None: there are
            none.
        camera: camera of images of that size, needed for the distortion.
        distortion: lens of the camera; None for a pinhole.
    """

    size: tuple[int, int]
    read: Callable[[], np.ndarray]
    count: int = 1
    read_masks: Callable[[], np.ndarray] | None = None
    camera: Camera | None = None
    distortion: Distortion | None = None


def common_size(sizes: Sequence[tuple[int, int]], count: int) -> tuple[int, int]:
    """Return the height and width that hold all images, and check the memory they take.

    Args:
        sizes: heights and widths in pixels.
        count: number of images, M.

    Raises:
        GridError: they take too much.
    """
    height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
    if count * height * width * 4 > MAX_GRID_BYTES:
        raise GridError(
            f"{count} images of {width}×{height} pixels take more than "
            f"{MAX_GRID_BYTES >> 30} GiB; take fewer images, or resize them"
        )
    return height, width


def read_pixels(sources: Sequence[ImageSource], size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Read images with their alpha, padded to one size.

    Args:
        sources: where the images come from, M images together.
        size: height and width of the result in pixels.

    Returns:
        RGBA with straight alpha, uint8, [M, H, W, 4]; and whether all images had alpha or a mask.
        The alpha of others is estimated, see `with_alpha`.

    Raises:
        GridError: a file is damaged.
    """
    starts = np.cumsum([0, *(source.count for source in sources)])
    images = empty_images((int(starts[-1]), *size, 4))
    known = True
    for own in sorted({source.size for source in sources}):
        chosen = [index for index, source in enumerate(sources) if source.size == own]
        rows = np.concatenate([np.arange(starts[k], starts[k + 1]) for k in chosen])
        is_all = len(rows) == len(images) and own == size
        group = images if is_all else empty_images((len(rows), *own, 4))
        known &= _read_group(group, [sources[index] for index in chosen])
        if not is_all:
            top, left = pad_offsets(own, size)
            images[rows, top : top + own[0], left : left + own[1]] = group
    return images, known


def _read_group(group: np.ndarray, sources: Sequence[ImageSource]) -> bool:
    """Read images of one size; return whether all of them had alpha or a mask."""
    ends = np.cumsum([source.count for source in sources])
    parts = [group[end - source.count : end] for end, source in zip(ends, sources, strict=True)]
    with ThreadPoolExecutor() as pool:  # images and videos are decoded outside the GIL
        list(pool.map(_read_into, parts, sources))
    masked = np.repeat([s.read_masks is not None for s in sources], [s.count for s in sources])
    known = True
    if not masked.all():
        rest, known = with_alpha(group[~masked] if masked.any() else group)
        if rest is not group:
            group[~masked] = rest
    for part, source in zip(parts, sources, strict=True):
        if source.read_masks is not None:
            for image, mask in zip(part, source.read_masks(), strict=True):
                image[:] = with_mask(image, mask)
        if source.distortion is not None and source.camera is not None:
            for image in part:
                image[:] = undistort(image, source.camera, source.distortion)
    return known


def _read_into(target: np.ndarray, source: ImageSource) -> None:
    found = source.read()
    target[..., 3] = 255
    target[..., : found.shape[-1]] = found
