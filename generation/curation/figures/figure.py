"""A procedural character: a kinematic tree of solids with colors and oscillating joints.

Coordinates: +Z up, the front faces −Y, left and right are mirrored about x = 0. Time is in [0, 1]
over the animation.
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
    """Region of a part with the second color: none, one end, rings, the front, or patches."""

    plain = "plain"
    end = "end"
    stripes = "stripes"
    belly = "belly"
    patches = "patches"


@dataclass(frozen=True)
class Paint:
    """Colors of a part.

    Attributes:
        color: first color, linear RGB in [0, 1], [3].
        other: second color, linear RGB in [0, 1], [3].
        pattern: region with the second color.
        share: approximate fraction of the part with the second color, in [0, 1].
        seed: seed of the pattern `patches`.
    """

    color: Vector
    other: Vector
    pattern: Pattern = Pattern.plain
    share: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Swing:
    """Sinusoidal rotation of a joint.

    Attributes:
        axis: unit vector in the parent's frame, [3].
        amplitude_rad: maximum angle.
        cycles: number of cycles over the animation.
        phase: phase in cycles.
    """

    axis: Vector = (1.0, 0.0, 0.0)
    amplitude_rad: float = 0.0
    cycles: float = 1.0
    phase: float = 0.0

    def rotation(self, time: float) -> Rotation:
        """Return the rotation from the rest pose at a time."""
        turn = np.sin(2 * np.pi * (self.cycles * time + self.phase))
        return Rotation.from_rotvec(np.multiply(self.axis, self.amplitude_rad * turn))


@dataclass(frozen=True)
class Part:
    """A solid and the joint that connects it to its parent.

    Attributes:
        solid: shape of the part.
        paint: colors of the part.
        parent: index of the parent part; None for the root.
        joint: position of the joint in the parent's frame, [3].
        rest: rotation at rest, as a rotation vector in radians, [3].
        offset: offset of the solid's center from the joint, in the part's own frame, [3].
        swing: motion of the joint.
        smooth: whether normals are interpolated (smooth shading).
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
        """Mirror the joint about x = 0; the solids themselves are symmetric."""
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
    """Pose of a part's frame in the world.

    Attributes:
        rotation: part to world.
        joint: origin of the frame in the world, [3].
    """

    rotation: Rotation
    joint: np.ndarray


@dataclass(frozen=True)
class Figure:
    """A procedural character.

    Attributes:
        parts: at least one part; each part comes after its parent.
        hop: height of the hops of the whole character.
        hops: number of hops over the animation.
    """

    parts: tuple[Part, ...]
    hop: float = 0.0
    hops: float = 1.0

    def poses(self, time: float) -> list[Pose]:
        """Return the poses of all parts at a time (forward kinematics)."""
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
