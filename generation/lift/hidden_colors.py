"""Colors of hidden surfaces without small details.

What is small on the front, such as an eye or a button, is rarely behind it as well, but a network
that cannot tell the back paints a part of it there. The median of the colors around keeps large
areas and their borders. Letters: S × S pixels of the layers, P pixels of the object, N around each.
"""

from __future__ import annotations

import numpy as np

REACH_PX = 6  # half the side of the square around a pixel, at S = 128
STRIDE = 2  # distance of the pixels in that square
_UNKNOWN = 256  # sorts behind all colors


def without_details(color: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Replace each color by the median of those around it in the mask, for each channel.

    Args:
        color: sRGB, uint8, [S, S, 3].
        mask: pixels of the object, bool, [S, S].
    """
    row, column = np.nonzero(mask)
    if len(row) == 0:
        return color
    padded = np.pad(
        np.where(mask[..., None], color, np.uint16(_UNKNOWN)),
        ((REACH_PX, REACH_PX), (REACH_PX, REACH_PX), (0, 0)),
        constant_values=_UNKNOWN,
    )
    shifts = range(0, 2 * REACH_PX + 1, STRIDE)
    around = np.stack(
        [padded[row + i, column + j] for i in shifts for j in shifts], -1
    )  # [P, 3, N]
    around.sort(axis=-1)
    known = (around[:, 0] < _UNKNOWN).sum(-1)
    middle = (known - 1) // 2  # the pixel itself is known
    result = color.copy()
    result[row, column] = np.take_along_axis(around, middle[:, None, None], -1)[..., 0]
    return result
