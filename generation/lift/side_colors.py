"""Colors of surfaces that the view barely sees, without stripes.

Along a wall, or where a surface turns away from the view, one pixel colors a long strip of the
surface, so that small differences of neighboring pixels become stripes. Detail that a strip lacks
along itself, its neighbors cannot have across: colors diffuse along the short edges of the mesh,
from strip to strip, the more the longer the strips are.
Letters: N vertices, M triangles, E edges, with those of each triangle on its own.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array

LONG_PX, LONGEST_PX = (
    2.0,
    6.0,
)  # longest edge of a vertex from which colors diffuse, and do so fully
SHORT_PX = 1.6  # edges up to this length connect strips
ROUNDS, SHARE = (
    12,
    0.6,
)  # of diffusion, and of the neighbors in each; a standard deviation of 3 strips


def without_stripes(
    vertices: np.ndarray,
    triangles: np.ndarray,
    colors: np.ndarray,
    bounds: np.ndarray,
    spacing: np.ndarray,
) -> np.ndarray:
    """Smooth the colors of the stretched parts of a mesh; those of other vertices do not change.

    Args:
        vertices: world coordinates, [N, 3].
        triangles: vertex indices, [M, 3].
        colors: sRGB, uint8, [N, 3].
        bounds: number of the surface that a vertex belongs to, front or back; colors of different
            ones do not mix, [N].
        spacing: width of a pixel at each vertex in world units, [N].

    Returns:
        sRGB, uint8, [N, 3].
    """
    count = len(vertices)
    a, b = triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).T
    length_px = np.linalg.norm(vertices[a] - vertices[b], axis=1) / spacing[a]
    longest_px = np.zeros(count, np.float32)
    for end in (a, b):
        np.maximum.at(longest_px, end, length_px)
    short = (length_px <= SHORT_PX) & (bounds[a] == bounds[b])
    a, b = a[short], b[short]
    pairs = np.concatenate([a, b]), np.concatenate([b, a])
    near = coo_array((np.ones(len(pairs[0]), np.float32), pairs), shape=(count, count)).tocsr()
    neighbors = near.sum(axis=1)
    share = SHARE * ((longest_px - LONG_PX) / (LONGEST_PX - LONG_PX)).clip(0, 1)
    rows = np.flatnonzero((share > 0) & (neighbors > 0))
    near, neighbors, share = near[rows], neighbors[rows, None], share[rows, None]
    diffused = colors.astype(np.float32)
    for _ in range(ROUNDS):
        diffused[rows] += share * (near @ diffused / neighbors - diffused[rows])
    return np.rint(diffused).astype(np.uint8)
