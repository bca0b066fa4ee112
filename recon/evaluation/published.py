"""Rows of the literature on Consistent4D's test set, to stand beside measured ones.

They were computed by their authors, over the frames that are named here where they are known, with
`--fvd pair`. LPIPS: VGG16, 512²; CLIP-S: ViT-B/32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class PublishedRow(NamedTuple):
    """A row of a paper's table.

    Attributes:
        method: its name.
        values: values by the name of the metric.
        frames: number of frames that were evaluated; None if it is not stated.
        source: paper and table.
    """

    method: str
    values: Mapping[str, float]
    frames: int | None
    source: str


def _row(
    method: str, lpips: float, clip: float, fvd_f: float | None, source: str, frames: int | None
) -> PublishedRow:
    values = {"lpips": lpips, "clip": clip}
    return PublishedRow(
        method, values if fvd_f is None else {**values, "fvd-f": fvd_f}, frames, source
    )


PUBLISHED_OBJECTS = 7  # of the test set, over which the values are means
_NOVEL, _ASSETS = "SV4D, Table 1", "SV4D, Table 2"
PUBLISHED = {
    "consistent4d-video": (
        _row("SV3D", 0.129, 0.925, 989.5, _NOVEL, None),
        _row("Diffusion²", 0.189, 0.907, 1205.0, _NOVEL, 25),
        _row("STAG4D", 0.131, 0.929, 861.9, _NOVEL, 30),
        _row("SV4D", 0.129, 0.929, 677.7, _NOVEL, None),
    ),
    "consistent4d-4d": (
        _row("Consistent4D", 0.160, 0.87, 1133.9, _ASSETS, 32),
        _row("STAG4D", 0.126, 0.91, 992.2, _ASSETS, 30),
        _row("4Diffusion", 0.165, 0.88, None, _ASSETS, None),
        _row("Efficient4D", 0.130, 0.92, None, _ASSETS, None),
        _row("4DGen", 0.140, 0.89, None, _ASSETS, None),
        _row("DreamGaussian4D", 0.160, 0.87, None, _ASSETS, None),
        _row("GaussianFlow", 0.140, 0.91, None, _ASSETS, None),
        _row("SV4D", 0.118, 0.92, 732.4, _ASSETS, None),
    ),
}
"""Rows by the name of their table: novel-view videos, and renderings of 4D assets."""
