"""Random generator of procedural characters: bodies with heads, limbs, tails, wings and extras.

    seed ─▶ palette, body ─▶ head, legs, arms, tail, wings, extras ─▶ Figure

The characters depend on the order of the random draws, so a change in this file may change the
characters of all seeds. Lengths are in units of a body of size about 1.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from generation.curation.figures.figure import Figure, Paint, Part, Pattern, Swing, Vector
from generation.curation.figures.solids import Solid

PATTERN_SHARES = (0.6, 0.1, 0.1, 0.1, 0.1)  # probabilities, in the order of `Pattern`
WHITE: Vector = (0.9, 0.9, 0.9)
X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def random_figure(seed: int) -> Figure:
    """Generate the character of a non-negative seed; it is the same on all machines."""
    return _Draw(np.random.default_rng(seed)).figure()


class _Draw:
    """State of the generation of one character: its style and the parts so far."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.parts: list[Part] = []
        self.palette = [self._color() for _ in range(rng.integers(2, 6))]
        self.smooth = bool(rng.random() < 0.5)
        self.boxy = float(rng.choice([1.0, 1.0, 0.8, 0.5, 0.25]))
        self.cycles = float(rng.choice([1, 1, 2, 2, 3]))
        self.liveliness = self._between(0.1, 0.8)

    def figure(self) -> Figure:
        body = self._body()
        kinds: list[tuple[float, Callable[[int], None]]] = [
            (0.85, self._head),
            (0.75, self._legs),
            (0.5, self._arms),
            (0.4, self._tail),
            (0.25, self._wings),
            (0.5, self._extras),
        ]
        for chance, add in kinds:
            if self.rng.random() < chance:
                add(body)
        hop = self._between(0, 0.3) if self.rng.random() < 0.3 else 0.0
        return Figure(tuple(self.parts), hop, self.cycles)

    # Body parts

    def _body(self) -> int:
        upright = self.rng.random() < 0.5
        wide, deep = self._between(0.25, 0.6), self._between(0.25, 0.6)
        long = self._between(0.4, 0.9)
        radii = (wide, deep, long) if upright else (wide, long, deep)
        return self._add(self._part(self._solid(radii), swing=((X, Y, Z), 0.3)))

    def _head(self, body: int) -> None:
        _, deep, high = self._radii(body)
        size = self._between(0.35, 1.2) * float(np.mean(self._radii(body)))
        forward = self._between(0, 1)  # from on top to in front
        up = self._between(0.9 - 0.6 * forward, 1.0)
        neck = size * self._between(0.4, 1.3)
        x, y, z = (size * self._between(0.7, 1.3) for _ in range(3))
        part = self._part(
            self._solid((x, y, z)),
            body,
            joint=(0.0, -0.9 * deep * forward, high * up),
            offset=(0.0, -neck * forward, neck * (1 - forward * self._between(0.3, 1.0))),
            swing=((X, Y, Z), 0.5),
        )
        head = self._add(part)
        for chance, add in ((0.8, self._eyes), (0.5, self._snout), (0.6, self._ears)):
            if self.rng.random() < chance:
                add(head)

    def _eyes(self, head: int) -> None:
        wide, deep, high = self._radii(head)
        size = wide * self._between(0.12, 0.4)
        side, up = self._between(0.25, 0.75), self._between(-0.1, 0.6)
        red, green, blue = self.rng.uniform(0, 0.08, 3).tolist()
        dark = (red, green, blue)
        ball = WHITE if self.rng.random() < 0.5 else dark
        front = -deep * float(np.sqrt(max(0.05, 1 - 0.8 * side**2 - 0.8 * up**2)))
        eye = Part(
            Solid((size, size * self._between(0.4, 1.0), size), segments=(8, 6)),
            Paint(ball, dark, Pattern.belly, self._between(0.3, 0.5)),
            head,
            self._place(head, (side * wide, front, up * high)),
        )
        self._add_pair(eye)

    def _snout(self, head: int) -> None:
        wide, deep, high = self._radii(head)
        size = wide * self._between(0.25, 0.6)
        long = deep * self._between(0.3, 1.0)
        snout = self._part(
            self._straight((size, size * self._between(0.5, 1.0), long)),
            head,
            joint=self._place(head, (0.0, -0.8 * deep, -high * self._between(0, 0.5))),
            rest=(np.pi / 2, 0.0, 0.0),
            offset=(0.0, 0.0, 0.5 * long),
        )
        self._add(snout)

    def _ears(self, head: int) -> None:
        """Add ears or horns."""
        wide, _, high = self._radii(head)
        long, thick = high * self._between(0.3, 1.2), wide * self._between(0.1, 0.4)
        solid = self._solid((thick, thick * self._between(0.3, 1.0), long))
        ear = self._part(
            replace(solid, taper=(1.0, self._between(0.05, 0.9))),
            head,
            joint=self._place(
                head, (wide * self._between(0.3, 0.9), 0.0, high * self._between(0.4, 0.9))
            ),
            rest=(self._between(-0.5, 0.5), self._between(0, 1.2), 0.0),
            offset=(0.0, 0.0, 0.8 * long),
            swing=((X, Y), 0.3),
        )
        self._add_pair(ear)

    def _legs(self, body: int) -> None:
        wide, deep, high = self._radii(body)
        pairs = int(self.rng.choice([1, 1, 2, 2, 3]))
        long, thick = 0.5 * high + self._between(0.15, 0.9), self._between(0.06, 0.22)
        out, tilt = self._between(0.3, 0.8), self._between(-0.1, 0.5)
        paint, foot, swing = self._paint(), self._paint(), self._swing((X,), 0.9)
        for pair, along in enumerate(np.linspace(-0.7, 0.7, pairs) if pairs > 1 else (0.0,)):
            leg = Part(
                self._straight((thick, thick, long)),
                paint,
                body,
                joint=(out * wide, float(along) * deep, -0.6 * high),
                rest=(np.pi, -tilt, 0.0),
                swing=replace(swing, phase=swing.phase + 0.5 * pair),
                smooth=self.smooth,
            )
            self._add_limbs(leg, foot)

    def _arms(self, body: int) -> None:
        wide, _, high = self._radii(body)
        thick, long = self._between(0.05, 0.18), self._between(0.3, 0.9)
        arm = self._part(
            self._straight((thick, thick, long)),
            body,
            joint=(0.85 * wide, 0.0, high * self._between(0.2, 0.7)),
            rest=(np.pi + self._between(-1.2, 0.4), -self._between(0.1, 1.6), 0.0),
            swing=((X, Y), 1.2),
        )
        self._add_limbs(arm, self._paint())

    def _add_limbs(self, limb: Part, end: Paint) -> None:
        """Add a limb on both sides, with one or two segments and perhaps a hand or foot.

        Args:
            limb: the limb as one part, with the length of all segments together.
            end: paint of the hand or foot.
        """
        thick, _, long = limb.solid.radii
        members = int(self.rng.integers(1, 3))
        half = long / members / 2
        member = replace(
            limb,
            solid=replace(
                limb.solid, radii=(thick, thick, 1.1 * half)
            ),  # members overlap at joints
            offset=(0.0, 0.0, half),
        )
        tips = self._add_pair(member)
        swing = replace(limb.swing, phase=limb.swing.phase + 0.2, axis=X)
        bend = self._between(-0.9, 0.9)
        lower = replace(member, joint=(0.0, 0.0, 2 * half), rest=(bend, 0.0, 0.0), swing=swing)
        for _ in range(members - 1):
            tips = self._add_at(lower, tips)
        if self.rng.random() < 0.7:
            size = thick * self._between(1.0, 2.2)
            form = (size, size * self._between(0.8, 1.8), size * self._between(0.4, 1.2))
            tip = Part(self._solid(form), end, joint=(0.0, 0.0, 2 * half), smooth=self.smooth)
            self._add_at(tip, tips)

    def _tail(self, body: int) -> None:
        _, deep, high = self._radii(body)
        members = int(self.rng.integers(1, 4))
        half, thick = self._between(0.12, 0.4), self._between(0.06, 0.25)
        member = self._part(
            self._straight((thick, thick, 1.1 * half)),
            body,
            joint=(0.0, 0.85 * deep, high * self._between(-0.6, 0.4)),
            rest=(-np.pi / 2 + self._between(-0.6, 0.6), 0.0, 0.0),
            offset=(0.0, 0.0, half),
            swing=((X, Z), 0.6),
        )
        for _ in range(members):
            tip = self._add(member)
            thick *= 0.75
            swing = replace(member.swing, phase=member.swing.phase - 0.15)  # a wave runs along it
            member = replace(
                member,
                solid=replace(member.solid, radii=(thick, thick, 1.1 * half)),
                parent=tip,
                joint=(0.0, 0.0, 2 * half),
                rest=(self._between(-0.4, 0.4), 0.0, 0.0),
                swing=swing,
            )

    def _wings(self, body: int) -> None:
        """Add wings or fins."""
        wide, deep, high = self._radii(body)
        long, broad = self._between(0.3, 0.9), self._between(0.1, 0.45)
        solid = self._straight((broad * self._between(0.05, 0.2), broad, long))
        wing = self._part(
            replace(solid, taper=(self._between(0.4, 1), self._between(0.2, 1.2))),
            body,
            joint=(0.8 * wide, deep * self._between(-0.3, 0.7), high * self._between(0, 0.9)),
            rest=(self._between(-0.4, 0.4), np.pi / 2 + self._between(-0.8, 0.8), 0.0),
            offset=(0.0, 0.0, 0.9 * long),
            swing=((Y,), 1.0),
        )
        self._add_pair(wing)

    def _extras(self, body: int) -> None:
        """Add one to four solids: on the body in pairs or in the middle, or on any other part."""
        for _ in range(self.rng.integers(1, 5)):
            anywhere = self.rng.random() < 0.5
            parent = int(self.rng.integers(len(self.parts))) if anywhere else body
            radii = np.array(self._radii(parent))
            size = float(radii.mean()) * self._between(0.15, 0.7)
            direction = self.rng.normal(size=3)
            x, y, z = (direction / np.linalg.norm(direction) * radii).tolist()
            across, deep, long = (size * self._between(0.3, 1.2) for _ in range(3))
            turn_x, turn_y, turn_z = self.rng.uniform(-1.5, 1.5, 3).tolist()
            extra = self._part(
                self._solid((across, deep, long)),
                parent,
                joint=self._place(parent, (x, y, z)),
                rest=(turn_x, turn_y, turn_z),
            )
            if parent != body:
                self._add(extra)
            elif self.rng.random() < 0.6:
                self._add_pair(extra)
            else:
                self._add(replace(extra, joint=(0.0, *extra.joint[1:])))

    # Shape, color and motion of a part

    def _part(
        self,
        solid: Solid,
        parent: int | None = None,
        joint: Vector = (0.0, 0.0, 0.0),
        rest: Vector = (0.0, 0.0, 0.0),
        offset: Vector = (0.0, 0.0, 0.0),
        swing: tuple[tuple[Vector, ...], float] | None = None,
    ) -> Part:
        """Make a part in the character's style; `swing` has candidate axes and maximum angle."""
        moving = Swing() if swing is None else self._swing(*swing)
        return Part(solid, self._paint(), parent, joint, rest, offset, moving, self.smooth)

    def _solid(self, radii: Vector) -> Solid:
        across, along = (
            float(np.clip(self.boxy * self._between(0.7, 1.3), 0.2, 1.2)) for _ in range(2)
        )
        tapered, bent = self.rng.random(2) < (0.5, 0.3)
        taper = (self._between(0.5, 1.3), self._between(0.5, 1.3)) if tapered else (1.0, 1.0)
        bend = self._between(-0.4, 0.4) if bent else 0.0
        segments = (12, 8) if self.smooth else (8, 6)
        return Solid(radii, (across, along), taper, bend, segments)

    def _straight(self, radii: Vector) -> Solid:
        return replace(self._solid(radii), bend=0.0)

    def _paint(self) -> Paint:
        color, other = (self.palette[i] for i in self.rng.integers(len(self.palette), size=2))
        pattern = list(Pattern)[self.rng.choice(len(Pattern), p=PATTERN_SHARES)]
        return Paint(color, other, pattern, self._between(0.2, 0.6), int(self.rng.integers(2**31)))

    def _color(self) -> Vector:
        hue, saturation, darkness = self.rng.random(3)
        shade = colorsys.hsv_to_rgb(hue, 0.9 * saturation, 1 - 0.9 * darkness**1.5)
        red, green, blue = (channel**2.2 for channel in shade)
        return red, green, blue

    def _swing(self, axes: tuple[Vector, ...], most_rad: float) -> Swing:
        axis = axes[self.rng.integers(len(axes))]
        amplitude = most_rad * self.liveliness * self._between(0.2, 1.0)
        return Swing(axis, amplitude, self.cycles, self._between(0, 1))

    # Placement

    def _radii(self, part: int) -> Vector:
        return self.parts[part].solid.radii

    def _place(self, part: int, place: Vector) -> Vector:
        """Convert a position from the frame of a part's solid to the frame of the part."""
        x, y, z = np.add(place, self.parts[part].offset).tolist()
        return x, y, z

    def _add(self, part: Part) -> int:
        self.parts.append(part)
        return len(self.parts) - 1

    def _add_pair(self, part: Part) -> list[int]:
        """Add a part and its mirror image, which swing together or half a cycle apart."""
        other = part.mirrored()
        apart = 0.5 if self.rng.random() < 0.6 else 0.0
        swing = replace(other.swing, phase=other.swing.phase + apart)
        return [self._add(part), self._add(replace(other, swing=swing))]

    def _add_at(self, part: Part, parents: list[int]) -> list[int]:
        """Add a part to both parents of a pair, mirrored for the second one."""
        near, far = parents
        return [
            self._add(replace(part, parent=near)),
            self._add(replace(part.mirrored(), parent=far)),
        ]

    def _between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))
