"""Which views and frames of a grid a training step sees.

Letters: V views and T frames of a grid, of which n and F are chosen. A choice is drawn from a
generator of random numbers and depends on nothing else. A varied one may show the grid in a mirror,
in other colours or backwards in time, all of which leave an object that moves. What it does not
know: images.
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
    MIXED = "mixed"


@dataclass(frozen=True)
class Selection:
    """What is to be chosen from each grid.

    Attributes:
        views: n; a grid with more gives as many at random, one with as many gives all.
        frames: F.
        spacing: how the frames lie. Consecutive ones start anywhere, with a stride up to
            `max_stride`, and their first is the reference frame. Anchors are spread over the whole
            clip, and frame 0, which is then none of them, is the reference frame.
        max_stride: of consecutive and mixed frames; it is drawn for each choice, as far as the clip
            is long enough.
        random_reference: whether any view may be the reference view; else it is view 0.
        sizes: of the images: "low", "high" or both. No other ones are decoded.
        varied: whether choices may be mirrored, in other colours and backwards.

    Raises:
        InputError: a number is below 1, or no size is asked for.
    """

    views: int = 16
    frames: int = 5
    spacing: Spacing = Spacing.CONSECUTIVE
    max_stride: int = 1
    random_reference: bool = False
    sizes: tuple[str, ...] = ("low",)
    varied: bool = False

    def __post_init__(self):
        if min(self.views, self.frames, self.max_stride) < 1 or not self.sizes:
            raise InputError("views, frames and stride must be at least 1, and a size be named")

    @property
    def needed_frames(self) -> int:
        """T at least."""
        return self.frames + (self.spacing is not Spacing.CONSECUTIVE)


COARSE = Selection()
FINE = Selection(views=4, sizes=("low", "high"))


class Choice(NamedTuple):
    """What one training step sees of a grid.

    Attributes:
        reference_view: the one that is known at all times.
        reference_frame: the one that is known from all views.
        views: n of them, as one meets them going around from the reference view.
        frames: F of them, ascending, or descending where time goes backwards.
        mirrored: whether left and right change places, and with them the views to both sides of
            the reference view.
        channels: which of red, green and blue comes in the place of each.
    """

    reference_view: int
    reference_frame: int
    views: tuple[int, ...]
    frames: tuple[int, ...]
    mirrored: bool = False
    channels: tuple[int, ...] = (0, 1, 2)


def choose(selection: Selection, V: int, T: int, rng: np.random.Generator) -> Choice:
    """Draws a choice from a grid that has at least the views and frames it takes."""
    assert selection.views <= V and selection.needed_frames <= T, "checked when a pack is opened"
    reference_view = int(rng.integers(V)) if selection.random_reference else 0
    steps = np.sort(rng.choice(V, selection.views, replace=False))
    views = tuple(((reference_view + steps) % V).tolist())
    reference_frame, frames = _SPACINGS[selection.spacing](selection, T, rng)
    choice = Choice(reference_view, reference_frame, views, frames)
    return _varied(choice, T, rng) if selection.varied else choice


def _varied(choice: Choice, T: int, rng: np.random.Generator) -> Choice:
    """Another object with another motion, seen in the same way."""
    backwards, mirrored = rng.integers(2, size=2).astype(bool).tolist()
    if backwards:
        choice = choice._replace(
            reference_frame=T - 1 - choice.reference_frame,
            frames=tuple(T - 1 - frame for frame in choice.frames),
        )
    if mirrored:  # so that views still are in the order in which one meets them
        own, others = choice.views[:1], choice.views[1:]
        views = own + others[::-1] if own[0] == choice.reference_view else choice.views[::-1]
        choice = choice._replace(views=views)
    return choice._replace(mirrored=mirrored, channels=tuple(rng.permutation(3).tolist()))


_Frames = tuple[int, tuple[int, ...]]
"""(reference frame, frames)."""


def _consecutive(selection: Selection, T: int, rng: np.random.Generator) -> _Frames:
    frames = _window(selection.frames, selection.max_stride, T, rng)
    return frames[0], frames


def _mixed(selection: Selection, T: int, rng: np.random.Generator) -> _Frames:
    before = int(rng.integers(2))
    frames = _window(selection.frames + before, selection.max_stride, T, rng)
    return frames[0], frames[before:]


def _window(F: int, max_stride: int, T: int, rng: np.random.Generator) -> tuple[int, ...]:
    """F frames at equal distances, anywhere."""
    longest = (T - 1) // (F - 1) if F > 1 else 1
    stride = int(rng.integers(1, min(max_stride, longest) + 1))
    start = int(rng.integers(T - (F - 1) * stride))
    return tuple(range(start, start + F * stride, stride))


def _anchors(selection: Selection, T: int, rng: np.random.Generator) -> _Frames:
    F = selection.frames
    return 0, tuple(round((T - 1) * index / F) for index in range(1, F + 1))


_SPACINGS: Mapping[Spacing, Callable[[Selection, int, np.random.Generator], _Frames]] = {
    Spacing.CONSECUTIVE: _consecutive,
    Spacing.ANCHORS: _anchors,
    Spacing.MIXED: _mixed,
}
