"""Mosaics: images that show several views side by side, as other programs write videos.

4 views in 2 × 2:    0 1    row by row from the upper left
                     2 3
"""

from __future__ import annotations

import re
from typing import NamedTuple

from recon.errors import InputError

MAX_VIEWS = 256


class Mosaic(NamedTuple):
    """Arrangement of the views in an image.

    Attributes:
        rows: number of rows.
        columns: number of views in a row.
    """

    rows: int
    columns: int

    @property
    def views(self) -> int:
        """Number of views."""
        return self.rows * self.columns

    def cells(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Return the rows and columns of pixels of each view, row by row from the upper left.

        Args:
            height: height of the image in pixels.
            width: width of the image in pixels.

        Raises:
            InputError: the image cannot be divided into views of one size.
        """
        if height % self.rows or width % self.columns:
            raise InputError(
                f"{width}×{height} pixels cannot be divided into {self.rows} rows and "
                f"{self.columns} columns of one size"
            )
        h, w = height // self.rows, width // self.columns
        return [
            (slice(row * h, row * h + h), slice(column * w, column * w + w))
            for row in range(self.rows)
            for column in range(self.columns)
        ]


def parse_mosaic(text: str) -> Mosaic:
    """Read an arrangement such as "2x4": 2 rows of 4 views.

    Raises:
        InputError: the text is not two numbers, or there are fewer than 1 or more than 256 views.
    """
    match = re.fullmatch(r"(\d{1,3})[x×](\d{1,3})", text, re.IGNORECASE | re.ASCII)
    mosaic = Mosaic(0, 0) if match is None else Mosaic(int(match[1]), int(match[2]))
    if not 1 <= mosaic.views <= MAX_VIEWS:
        raise InputError(
            f"expected a mosaic as ROWSxCOLUMNS of at most {MAX_VIEWS} views, such as 2x4, found "
            f"{text!r}"
        )
    return mosaic
