"""Which frames each sampler run denoises: windows over clips of any length.

A network denoises T frames at a time, the number it was trained with. Longer clips are denoised in
several windows; each is conditioned on the views of frames that earlier windows made. There are two
kinds:

    anchor  forward in time, from the views of one reference frame (or of none)
    fill    between two known frames; the steps alternate between forward in time from the first
            one and backward in time from the last one

Letters: n frames of the clip, numbered 0 to n − 1; T frames of a full window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIN_FRAMES = 5


@dataclass(frozen=True)
class Window:
    """Frames that are denoised together in one sampler run.

    Attributes:
        frames: frame numbers, ascending, at most T.
        reference: frame whose views condition the network; None: zeros instead of reference views.
        backward_reference: frame whose views condition the steps that run backward in time; None
            for an anchor window.
    """

    frames: tuple[int, ...]
    reference: int | None = None
    backward_reference: int | None = None

    @property
    def kind(self) -> Literal["anchor", "fill"]:
        """Kind of the window, see the module."""
        return "anchor" if self.backward_reference is None else "fill"

    @property
    def name(self) -> str:
        """Name in progress messages, e.g. "frames 4–20"."""
        return f"frames {self.frames[0]}–{self.frames[-1]}"


def anchor_and_fill_windows(n: int, T: int = 5) -> list[Window]:
    """Plan the windows of SV4D: T anchor frames spread over the clip, then fills between them.

    The views of frame 0 must exist already. For n = 21 these are the windows of the published
    sampling script: anchors 4, 8, 12, 16, 20, then five fills of five frames. Longer clips get
    fills inside of fills, shorter ones fewer; a fill with nothing missing is left out.

    Args:
        n: number of frames of the clip, at least `MIN_FRAMES`.
        T: number of frames of a full window.
    """
    if n <= T:
        return [Window(tuple(range(n)), reference=0)]
    anchors = _spread(0, n - 1, T + 1)[1:]
    windows = [Window(tuple(anchors), reference=0)]
    return windows + _fills(0, n - 1, T, {0, *anchors})


def chained_windows(n: int, T: int) -> list[Window]:
    """Plan the windows of SV4D 2.0: anchors of T frames, each starting in the one before.

    The first has no reference. The last is moved back so that it ends with the clip.

    Args:
        n: number of frames of the clip, at least `MIN_FRAMES`.
        T: number of frames of a full window.
    """
    windows = [Window(tuple(range(min(n, T))))]
    start = 0
    while start + T < n:
        start = min(start + T - 1, n - T)
        windows.append(Window(tuple(range(start, start + T)), reference=start))
    return windows


def _fills(first: int, last: int, T: int, known: set[int]) -> list[Window]:
    """Plan windows for the frames missing between two known frames, and add them to `known`.

    Each fill reaches from a known frame to the farthest known one within a window. Where there is
    none, frames in between are denoised first.
    """
    windows, start = [], first
    while start < last:
        ahead = [frame for frame in known if start < frame <= last]
        near = [frame for frame in ahead if frame < start + T]
        end = max(near) if near else min(ahead)
        if not known.issuperset(range(start, end)):
            frames = _spread(start, end, min(T, end - start + 1))
            known.update(frames)
            windows += [Window(tuple(frames), start, end), *_fills(start, end, T, known)]
        start = end
    return windows


def _spread(first: int, last: int, count: int) -> list[int]:
    """Return `count` integers from first to last, both included, as evenly spaced as possible."""
    return [round(first + (last - first) * index / (count - 1)) for index in range(count)]
