"""Which views and frames of a grid a training step sees.

Letters: V views and T frames of a grid, of which n and F are chosen. A choice is drawn from a
generator of random numbers and depends on nothing else. What it does not know: images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from recon.errors import InputError


class Spacing(StrEnum):
    """How the frames of a training step lie in the clip: as in the passes of `anchors`."""

    CONSECUTIVE = "consecutive"
    ANCHORS = "anchors"


@dataclass(frozen=True)
class Selection:
    """What is to be chosen from each grid.

    Attributes:
        views: n; a grid with more gives as many at random, one with as many gives all.
        frames: F.
        spacing: how the frames lie. Consecutive ones start anywhere, with a stride up to
            `max_stride`, and their first is the reference frame. Anchors are spread over the whole
            clip, and frame 0, which is then none of them, is the reference frame.
        max_stride: of consecutive frames; it is drawn for each choice, as far as the clip is long
            enough.
        random_reference: whether any view may be the reference view; else it is view 0.
        sizes: of the images: "low", "high" or both. No other ones are decoded.

    Raises:
        InputError: a number is below 1, or no size is asked for.
    """

    views: int = 16
    frames: int = 5
    spacing: Spacing = Spacing.CONSECUTIVE
    max_stride: int = 1
    random_reference: bool = False
    sizes: tuple[str, ...] = ("low",)

    def __post_init__(self):
        if min(self.views, self.frames, self.max_stride) < 1 or not self.sizes:
            raise InputError("views, frames and stride must be at least 1, and a size be named")

    @property
    def needed_frames(self) -> int:
        """T at least."""
        return self.frames + (self.spacing is Spacing.ANCHORS)


COARSE = Selection()
FINE = Selection(views=4, sizes=("low", "high"))


class Choice(NamedTuple):
    """What one training step sees of a grid.

    Attributes:
        reference_view: the one that is known at all times.
        reference_frame: the one that is known from all views.
        views: n of them, as one meets them going around from the reference view.
        frames: F of them, ascending.
    """

    reference_view: int
    reference_frame: int
    views: tuple[int, ...]
    frames: tuple[int, ...]


def choose(selection: Selection, V: int, T: int, rng: np.random.Generator) -> Choice:
    """Draws a choice from a grid that has at least the views and frames it takes."""
    assert selection.views <= V and selection.needed_frames <= T, "checked when a pack is opened"
    reference_view = int(rng.integers(V)) if selection.random_reference else 0
    steps = np.sort(rng.choice(V, selection.views, replace=False))
    views = tuple(((reference_view + steps) % V).tolist())
    reference_frame, frames = _SPACINGS[selection.spacing](selection, T, rng)
    return Choice(reference_view, reference_frame, views, frames)


_Frames = tuple[int, tuple[int, ...]]
"""(reference frame, frames)."""


def _consecutive(selection: Selection, T: int, rng: np.random.Generator) -> _Frames:
    F = selection.frames
    longest = (T - 1) // (F - 1) if F > 1 else 1
    stride = int(rng.integers(1, min(selection.max_stride, longest) + 1))
    start = int(rng.integers(T - (F - 1) * stride))
    frames = tuple(range(start, start + F * stride, stride))
    return frames[0], frames


def _anchors(selection: Selection, T: int, rng: np.random.Generator) -> _Frames:
    F = selection.frames
    return 0, tuple(round((T - 1) * index / F) for index in range(1, F + 1))


_SPACINGS: Mapping[Spacing, Callable[[Selection, int, np.random.Generator], _Frames]] = {
    Spacing.CONSECUTIVE: _consecutive,
    Spacing.ANCHORS: _anchors,
}
