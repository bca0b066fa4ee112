"""Writing of videos and animated GIFs through imageio.

Letters: H × W pixels. Pixels are 8-bit sRGB.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from imageio.plugins.pillow import PillowPlugin
from imageio.plugins.pyav import PyAVPlugin

MAX_RATE_DENOMINATOR = 1001  # 29.97 frames per second are 30000/1001
GIF_MIN_DELAY_CS = 2  # players show frames with a shorter delay for a tenth of a second
GIF_MAX_FPS = 100 / GIF_MIN_DELAY_CS


def write_gif(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write an animated GIF that loops forever.

    Delays are whole hundredths of a second. They differ by one where the rate needs it: at 24
    frames per second they are 4 or 5.

    Args:
        path: Output file, replaced if it exists.
        frames: Each uint8, [H, W, 3], at least one.
        fps: Mean frames per second, at most `GIF_MAX_FPS`, with which faster ones play.
    """
    delay_cs = 100 / min(fps, GIF_MAX_FPS)
    delays_ms: list[int] = []
    with iio.imopen(path, "w", plugin="pillow", extension=".gif") as file:
        assert isinstance(file, PillowPlugin)
        for index, frame in enumerate(frames):
            delays_ms.append(10 * (round((index + 1) * delay_cs) - round(index * delay_cs)))
            # The plugin writes the file at the end, with the delays of the last call.
            duration = delays_ms if index else delays_ms[0]
            file.write(frame, is_batch=False, duration=duration, loop=0)


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write an H.264 video in yuv420p, which every player supports.

    The pixel format needs even sides; the last row or column of an odd side is repeated.

    Args:
        path: Output file ending in .mp4, replaced if it exists.
        frames: Each uint8, [H, W, 3], all of one size.
        fps: Frames per second.
    """
    rate = Fraction(fps).limit_denominator(MAX_RATE_DENOMINATOR)
    with _frozen_heap():
        with iio.imopen(path, "w", plugin="pyav") as file:
            assert isinstance(file, PyAVPlugin)
            file.init_video_stream("libx264", fps=float(rate), pixel_format="yuv420p")
            for frame in frames:
                height, width = frame.shape[:2]
                is_even = height % 2 == width % 2 == 0
                padding = ((0, height % 2), (0, width % 2), (0, 0))
                file.write_frame(frame if is_even else np.pad(frame, padding, mode="edge"))
        del file  # its destructor closes it again


@contextmanager
def _frozen_heap() -> Iterator[None]:
    """Exempt all existing objects from garbage collection.

    imageio's pyav plugin runs two full collections for every video that it closes, which take 0.4 s
    together once torch and the networks are loaded.
    """
    if gc.get_freeze_count() > 0:  # frozen by the application, which may rely on it
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
