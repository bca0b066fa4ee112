"""Figures in the place of assets: what a manifest says of them, and how they are drawn.

What it does not know: files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from generation.curation.procedural.baking import BakedFigure, bake_figure
from generation.curation.procedural.random_figure import random_figure
from generation.curation.render_settings import RenderSettings


@dataclass(frozen=True)
class FigureAsset:
    """The figure of a seed, with the fields of `asset_files.Asset` but for the file.

    Attributes:
        seed: at least 0.
    """

    seed: int
    source: ClassVar[str | None] = None
    licence: ClassVar[str | None] = "CC0-1.0"
    author: ClassVar[str | None] = None

    @property
    def name(self) -> str:
        """Of the folder of its grid."""
        return f"figure_{self.seed:08d}"

    @property
    def path(self) -> Path:
        """What stands for a file in manifests."""
        return Path(self.name)

    def bake(self, settings: RenderSettings) -> BakedFigure:
        """Its frames, stretched and turned as the settings say."""
        yaw = math.radians(settings.yaw_deg)
        turn = np.array(
            [[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]]
        )
        stretched = turn @ np.diag(settings.factors(self.name))
        return bake_figure(random_figure(self.seed), settings.frames, stretched)


def figure_assets(first_seed: int, count: int) -> list[FigureAsset]:
    """The figures of `count` seeds, from the first one on."""
    return [FigureAsset(seed) for seed in range(first_seed, first_seed + count)]
