"""A figure: solids that hang on each other by joints, with their colours and how they swing.

    part ─▶ the one it hangs on ─▶ … ─▶ the root      each moves with those behind it

Frame: +Z up, the front looks along −Y, and what is left and right is mirrored about x = 0. Time is
in [0, 1] over the clip. What it does not know: which figures there are, triangles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from generation.curation.figures.solids import Solid

Vector = tuple[float, float, float]


class Pattern(StrEnum):
    """Where a part has its other colour: nowhere, at one end, in rings, in front, in patches."""

    plain = "plain"
    end = "end"
    stripes = "stripes"
    belly = "belly"
    patches = "patches"


@dataclass(frozen=True)
class Paint:
    """Colours of a part.

    Attributes:
        colour: of most of it, linear, in [0, 1], [3].
        other: of the rest, likewise.
        pattern: where the rest is.
        share: how much of the part the rest is, roughly, in [0, 1].
        seed: of patches.
    """

    colour: Vector
    other: Vector
    pattern: Pattern = Pattern.plain
    share: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Swing:
    """A rotation to and fro.

    Attributes:
        axis: unit, in the frame of the part it hangs on, [3].
        amplitude_rad: largest angle.
        cycles: over the clip.
        phase: in cycles.
    """

    axis: Vector = (1.0, 0.0, 0.0)
    amplitude_rad: float = 0.0
    cycles: float = 1.0
    phase: float = 0.0

    def rotation(self, time: float) -> Rotation:
        """From rest, at a time."""
        turn = np.sin(2 * np.pi * (self.cycles * time + self.phase))
        return Rotation.from_rotvec(np.multiply(self.axis, self.amplitude_rad * turn))


@dataclass(frozen=True)
class Part:
    """One solid of a figure.

    Attributes:
        solid: its form.
        paint: its colours.
        parent: index of the part it hangs on; None is the root.
        joint: where it hangs, in the frame of the parent, [3].
        rest: its turn at rest there, as a rotation vector in radians, [3].
        offset: of the solid's centre from the joint, in the part's own frame, [3].
        swing: how it moves.
        smooth: whether it is shaded as if it were round.
    """

    solid: Solid
    paint: Paint
    parent: int | None = None
    joint: Vector = (0.0, 0.0, 0.0)
    rest: Vector = (0.0, 0.0, 0.0)
    offset: Vector = (0.0, 0.0, 0.0)
    swing: Swing = Swing()
    smooth: bool = True

    def mirrored(self) -> Part:
        """Its mirror image about x = 0 where solids are; they are symmetric themselves."""
        (x, *rest_of_joint), (ox, *rest_of_offset) = self.joint, self.offset
        rx, ry, rz = self.rest
        ax, ay, az = self.swing.axis
        return replace(
            self,
            joint=(-x, *rest_of_joint),
            offset=(-ox, *rest_of_offset),
            rest=(rx, -ry, -rz),
            swing=replace(self.swing, axis=(ax, -ay, -az)),
        )


class Pose(NamedTuple):
    """Where a part's own frame is in the world.

    Attributes:
        rotation: of it.
        joint: its origin, [3].
    """

    rotation: Rotation
    joint: np.ndarray


@dataclass(frozen=True)
class Figure:
    """Parts, each after the one it hangs on.

    Attributes:
        parts: at least one.
        hop: how high all of it hops.
        hops: over the clip.
    """

    parts: tuple[Part, ...]
    hop: float = 0.0
    hops: float = 1.0

    def poses(self, time: float) -> list[Pose]:
        """Of all parts at a time."""
        up = np.array([0.0, 0.0, self.hop * abs(np.sin(np.pi * self.hops * time))])
        found: list[Pose] = []
        for part in self.parts:
            turn = part.swing.rotation(time) * Rotation.from_rotvec(part.rest)
            if part.parent is None:
                found.append(Pose(turn, up + part.joint))
            else:
                rotation, joint = found[part.parent]
                found.append(Pose(rotation * turn, joint + rotation.apply(part.joint)))
        return found
