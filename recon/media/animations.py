"""Animated WebP, PNG and AVIF files, read with Pillow; other images count as one frame.

FFmpeg reads no animated WebP, and drops the alpha of AVIF. Letters: T frames, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from recon.media.images import as_shown, opened_image

SHORTEST_MS, DEFAULT_MS = 11, 100  # browsers show frames of a shorter duration for 100 ms


def animation_times(path: Path) -> np.ndarray:
    """Read the times at which the frames of an image file appear.

    Returns:
        Seconds since the first frame, ascending, float64, [T].

    Raises:
        GridError: The file is missing, of another format, damaged or too large.
    """
    with opened_image(path) as image:
        durations = [_duration_ms(image, number) for number in _frame_numbers(image)[:-1]]
    return np.cumsum([0.0, *durations]) / 1000


def animation_frames(path: Path, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Read frames of an image file, one at a time.

    Args:
        path: image file.
        indices: indices into `animation_times`, ascending.

    Yields:
        Index and frame: sRGB with straight alpha, uint8, [H, W, 4].

    Raises:
        GridError: As in `animation_times`.
    """
    with opened_image(path) as image:
        numbers = _frame_numbers(image)
        for index in indices:
            if index < len(numbers):
                image.seek(numbers[index])
                yield index, as_shown(image, path)


def _frame_numbers(image: Image.Image) -> range:
    """Return Pillow's numbers of the frames of the animation, at least one."""
    if image.format in ("JPEG", "MPO"):  # the other images of a MPO are previews and depths
        return range(1)
    count = getattr(image, "n_frames", 1)
    is_still_first = count > 1 and getattr(image, "default_image", False)  # for old PNG readers
    return range(int(is_still_first), count)


def _duration_ms(image: Image.Image, number: int) -> float:
    image.seek(number)
    image.load()  # WebP and AVIF know the duration only then
    duration = float(image.info.get("duration") or 0)
    return duration if duration >= SHORTEST_MS else DEFAULT_MS
