"""Which frames each call of a network makes, and from which reference: clips of any length.

A network makes T frames at once, T being what it was trained with. Longer clips are made in passes,
each of which sees views that earlier passes made. Frame numbers count from 0 to n − 1.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_FRAMES = 5


@dataclass(frozen=True)
class Pass:
    """One run of the sampler.

    Attributes:
        frames: numbers of the frames that are made, ascending.
        reference: the frame whose views are shown to the network; None: zeros in their place.
        backward_reference: if not None, steps take turns: one runs with time reversed and the views
            of this frame as the reference, the next as usual.
    """

    frames: tuple[int, ...]
    reference: int | None = None
    backward_reference: int | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"frames {self.frames[0]}–{self.frames[-1]}"


def anchored_passes(n: int, T: int = 5) -> list[Pass]:
    """SV4D's: T anchor frames spread over the clip, then what lies between them.

    The views of frame 0 must be there already. With n = 21 these are the passes of the published
    sampling: anchors 4, 8, 12, 16, 20, then five windows of five frames. Longer clips get windows
    inside of windows, shorter ones fewer of them; a window with nothing missing is left out.

    Args:
        n: frames of the clip, at least `MIN_FRAMES`.
        T: frames of one pass.
    """
    if n <= T:
        return [Pass(tuple(range(n)), reference=0)]
    anchors = _spread(0, n - 1, T + 1)[1:]
    passes = [Pass(tuple(anchors), reference=0)]
    return passes + _filled(0, n - 1, T, {0, *anchors})


def chained_passes(n: int, T: int) -> list[Pass]:
    """SV4D 2.0's: windows of T frames, each beginning with a frame of the one before.

    The first has no reference. The last is moved back so that it ends with the clip.

    Args:
        n: frames of the clip, at least `MIN_FRAMES`.
        T: frames of one pass.
    """
    passes = [Pass(tuple(range(min(n, T))))]
    start = 0
    while start + T < n:
        start = min(start + T - 1, n - T)
        passes.append(Pass(tuple(range(start, start + T)), reference=start))
    return passes


def _filled(first: int, last: int, T: int, known: set[int]) -> list[Pass]:
    """Passes that make what is missing between two known frames; they become known, too.

    Each reaches from a known frame to the farthest known one that a pass can hold. Where there is
    none, frames in between are made first.
    """
    passes, start = [], first
    while start < last:
        ahead = [frame for frame in known if start < frame <= last]
        near = [frame for frame in ahead if frame < start + T]
        end = max(near) if near else min(ahead)
        if not known.issuperset(range(start, end)):
            frames = _spread(start, end, min(T, end - start + 1))
            known.update(frames)
            passes += [Pass(tuple(frames), start, end), *_filled(start, end, T, known)]
        start = end
    return passes


def _spread(first: int, last: int, count: int) -> list[int]:
    """`count` whole numbers from first to last, both included, as even as can be."""
    return [round(first + (last - first) * index / (count - 1)) for index in range(count)]
