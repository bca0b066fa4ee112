"""Selection of several animations of an asset by their names and measured motion."""

from __future__ import annotations

import re
from collections.abc import Sequence

from generation.curation.blender.request import Clip

STILL = 1e-5  # motion, as a fraction of the diagonal, that is rounding noise of float32
MOVING = 0.01  # motion that is preferred
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LYING = re.compile(
    r"dea(d|ths?)|die[ds]?|dying|sleep(s|ing)?|asleep|lay(s|ing|down)?|lie[sd]?|lying|liedown"
)


def select_clips(measured: Sequence[Clip], count: int) -> list[int]:
    """Select clips of different motion.

    Clips of lying or dying, which videos seldom show, are selected only if there are no others, and
    those that move little only if there are none that move more.

    Args:
        measured: measurements of all clips of an asset.
        count: maximum number of clips.

    Returns:
        Indices of the clips, evenly spaced in the order of their motion, from the most on; none if
        nothing moves.
    """
    moving = [i for i, clip in enumerate(measured) if max(clip.motion, clip.travel) >= STILL]
    upright = [i for i in moving if not is_lying(measured[i].name)] or moving
    pool = [i for i in upright if measured[i].motion >= MOVING] or upright
    pool.sort(key=lambda i: (-measured[i].motion, -measured[i].travel, measured[i].name))
    if count == 1 or len(pool) <= count:
        return pool[:count]
    return [pool[place * (len(pool) - 1) // (count - 1)] for place in range(count)]


def is_lying(name: str) -> bool:
    """Return whether a clip's name has a word such as "death" or "sleep"."""
    return any(_LYING.fullmatch(word.lower()) for word in _WORD.findall(name))
