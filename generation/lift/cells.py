"""Surfaces in the cells of a pixel grid whose pixels hold solid intervals along their rays.

A cell has the centers of 2 × 2 pixels as corners, clockwise in the image from the upper left. A
corner holds up to two intervals, hence up to four bounds: entry, exit, entry, exit. On the side of
a cell between two corners, a bound either continues to the bound of the other corner that it is
matched with, or turns around: a wall connects it with another bound of its own corner, at a place
between the two corners that is called a cut. The curves on the four sides of a cell form closed
loops, and a polygon that fills each loop is the surface in the cell. The cell on the other side has
the same curve, so that the whole surface is closed.

A bound is counted from the camera, so that entries are even and exits are odd.
"""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import NamedTuple

import numpy as np

CORNERS = ((0, 0), (0, 1), (1, 1), (1, 0))  # row and column offsets
DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # from a pixel to its neighbors
LABELS = 4 * (1 + len(DIRECTIONS))  # of a pixel's vertices: bounds at its center, and at its cuts
TO_NEXT = (0, 1, 2, 3)  # direction from each corner to the next one
TO_PREVIOUS = (1, 2, 3, 0)

Node = tuple[int, int]  # corner and bound


class CellSurface(NamedTuple):
    """Polygons in a cell; a vertex is corner · `LABELS` + label, see `label`.

    Attributes:
        triangles: clockwise seen from outside, [K, 3].
        quads: clockwise seen from outside, [Q, 4].
    """

    triangles: np.ndarray
    quads: np.ndarray


def label(bound: int, direction: int | None = None) -> int:
    """Return the number of a bound's vertex at the pixel center, or at the cut in a direction."""
    return bound + 4 * (0 if direction is None else 1 + direction)


def matched_bounds(overlaps: int) -> list[tuple[int, int]]:
    """List the matched bounds of two neighbors.

    Args:
        overlaps: bit 2 i + j is set if interval i of the one overlaps interval j of the other.
    """
    near = [[bool(overlaps >> (2 * i + j) & 1) for j in range(2)] for i in range(2)]
    pairs = [(i, j) for i in range(2) for j in range(2) if near[i][j]]
    found = []
    for i, j in pairs:
        others = [(a, b) for a, b in pairs if (a == i) != (b == j)]
        if not any(a < i or b < j for a, b in others):
            found.append((2 * i, 2 * j))
        if not any(a > i or b > j for a, b in others):
            found.append((2 * i + 1, 2 * j + 1))
    return found


@functools.cache
def cell_surface(counts: tuple[int, ...], overlaps: tuple[int, ...]) -> CellSurface:
    """Build the surface in a cell.

    Args:
        counts: number of intervals of each corner.
        overlaps: of each side, from its corner to the next one; see `matched_bounds`.
    """
    triangles: list[tuple[int, ...]] = []
    quads: list[tuple[int, ...]] = []
    for loop in _loops(counts, overlaps):
        for polygon in _polygons(loop):
            if len(polygon) == 4:
                quads.append(polygon)
            else:
                apex = len(polygon) // 2
                turned = polygon[apex:] + polygon[:apex]
                triangles += [(turned[0], *pair) for pair in pairwise(turned[1:])]
    return CellSurface(
        np.array(triangles, np.int64).reshape(-1, 3), np.array(quads, np.int64).reshape(-1, 4)
    )


def _loops(counts: tuple[int, ...], overlaps: tuple[int, ...]) -> list[list[tuple[int, int]]]:
    """List the closed loops as (vertex, bound); entries run clockwise in the image, exits back."""
    step: dict[Node, tuple[list[tuple[int, int]], Node]] = {}
    for side in range(4):
        one, other = side, (side + 1) % 4
        pairs = matched_bounds(overlaps[side])
        for a, b in pairs:
            if a % 2 == 0:
                step[one, a] = [], (other, b)
            else:
                step[other, b] = [], (one, a)
        free = sorted(set(range(2 * counts[one])) - {a for a, _ in pairs})
        _add_walls(step, one, free, TO_NEXT[one], entries=True)
        free = sorted(set(range(2 * counts[other])) - {b for _, b in pairs})
        _add_walls(step, other, free, TO_PREVIOUS[other], entries=False)
    loops = []
    while step:
        node = first = next(iter(step))
        loop = []
        while True:
            corner, bound = node
            loop.append((corner * LABELS + label(bound), bound))
            cuts, node = step.pop(node)
            loop += cuts
            if node == first:
                break
        loops.append(loop)
    return loops


def _add_walls(
    step: dict[Node, tuple[list[tuple[int, int]], Node]],
    corner: int,
    free: list[int],
    direction: int,
    entries: bool,
) -> None:
    """Connect unmatched bounds of a corner in pairs; entries leave a cell on one side only."""
    for near, far in zip(free[::2], free[1::2], strict=True):
        begin, end = (near, far) if (near % 2 == 0) == entries else (far, near)
        cuts = [(corner * LABELS + label(b, direction), b) for b in (begin, end)]
        step[corner, begin] = cuts, (corner, end)


def _polygons(loop: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Divide a loop into the parts of entries and exits, and the wall between them."""
    starts = [i for i in range(len(loop)) if (loop[i][1] - loop[i - 1][1]) % 2]
    vertices = [vertex for vertex, _ in loop]
    if not starts:
        return [tuple(vertices)]
    ends = [*starts[1:], starts[0] + len(loop)]
    parts = [
        tuple((vertices + vertices)[start:end]) for start, end in zip(starts, ends, strict=True)
    ]
    wall = tuple(vertex for part in parts for vertex in (part[0], part[-1]))
    return [*parts, wall]
