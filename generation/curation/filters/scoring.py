"""Scores of one grid folder: a function of a module, so that executors can send it anywhere.

Letters: V views, T frames. What it does not know: limits, reports, who calls it.


----
The scores of a grid, as numbers to compare with limits and as JSON.

What it does not know: how they are measured, which are good.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from generation.curation.filters.clips import evenly, view_clip
from generation.curation.filters.duplicates import VIEWS, render_hash
from generation.curation.filters.image_quality import measure_quality
from generation.curation.filters.motion import Flow, dis_flow, measure_motion
from recon.errors import GridError
from recon.grid import Grid, read_grid
from recon.media import encode_image, tile_images

MEASURES = 1  # raised whenever the same grid would get other scores
STRIP_FRAMES = 2
STRIP_TILE_PX = 96
STRIP_BACKGROUND = (0.9, 0.9, 0.9)  # white objects are seen on it, too


@dataclass(frozen=True)
class ScoringSettings:
    """What grids are measured with.

    Attributes:
        lpips: files of VGG16 and of the weights of LPIPS; without them it is not measured.
        raft: file of RAFT's weights; without it the flow is that of DIS.
    """

    lpips: tuple[Path, Path] | None = None
    raft: Path | None = None

    def absolute(self) -> ScoringSettings:
        """The same for a process that works in another folder."""
        files = None if self.lpips is None else (self.lpips[0].resolve(), self.lpips[1].resolve())
        return ScoringSettings(files, None if self.raft is None else self.raft.resolve())

    def to_json(self) -> dict[str, Any]:
        """What decides the scores; files by their content.

        Raises:
            OSError: a file cannot be read.
        """
        from generation.weights.verify import file_sha256

        return {
            "measures": MEASURES,
            "lpips": None if self.lpips is None else [file_sha256(file) for file in self.lpips],
            "raft": None if self.raft is None else file_sha256(self.raft),
        }


class ScoringTask(NamedTuple):
    """One grid to be scored."""

    folder: Path
    settings: ScoringSettings


class Scored(NamedTuple):
    """The scores, and a few small images as JPEG for people."""

    scores: Scores
    strip: bytes


def score_grid(task: ScoringTask) -> Scored:
    """Measures a grid folder by four of its views.

    Raises:
        GridError: it is no valid grid, or some views lack some frames.
        BackendError, WeightsError: something to measure with is missing.
    """
    grid = read_grid(task.folder)
    if not grid.is_full:
        raise GridError(
            f"expected {grid.V} views × {grid.T} frames, found {len(grid)} images", task.folder
        )
    clips = [view_clip(grid, int(view)) for view in evenly(grid.V, VIEWS)]
    quality = measure_quality(clips)
    motion = measure_motion(clips, _flow(task.settings))
    lpips = None
    if task.settings.lpips is not None:
        from generation.curation.filters.networks import load_lpips, measure_lpips  # imports torch

        lpips = measure_lpips(clips, load_lpips(*task.settings.lpips))
    scores = Scores(
        coverage=quality.coverage,
        cut_off=quality.cut_off,
        sharpness=quality.sharpness,
        clutter=quality.clutter,
        grain=quality.grain,
        motion=motion.motion,
        peak_motion=motion.peak,
        smoothness=motion.smoothness,
        render_hash=render_hash(clips).hex(),
        lpips=lpips,
    )
    return Scored(scores, _strip(grid))


def check_settings(settings: ScoringSettings) -> None:
    """Tells early, before long work, whether all is there that grids are measured with.

    Raises:
        BackendError, WeightsError: what is missing.
    """
    _flow(settings)
    if settings.lpips is not None:
        from generation.curation.filters.networks import load_lpips

        load_lpips(*settings.lpips)


def _flow(settings: ScoringSettings) -> Flow:
    if settings.raft is None:
        return dis_flow()
    from generation.curation.filters.networks import raft_flow  # imports torch

    return raft_flow(settings.raft)


def _strip(grid: Grid) -> bytes:
    """A row for each of two frames, four views in it; blank where there is none."""
    frames, views = evenly(grid.T, STRIP_FRAMES), evenly(grid.V, VIEWS)
    side = (STRIP_TILE_PX, STRIP_TILE_PX)

    def cell(view: int, frame: int) -> np.ndarray | None:
        found = np.flatnonzero((grid.view == view) & (grid.frame == frame))
        images = grid.over(STRIP_BACKGROUND, found[-1:])
        if len(images) == 0:
            return None
        return np.asarray(Image.fromarray(images[0]).resize(side, Image.Resampling.BOX))

    strip = tile_images([[cell(view, frame) for view in views] for frame in frames])
    return encode_image(strip, ".jpg", quality=88)


@dataclass(frozen=True)
class Scores:
    """What was measured of one grid; units and meaning are those of the modules that measure.

    Attributes:
        coverage: `image_quality`, like the next four.
        cut_off: share of the images in which the object reaches the border.
        sharpness: of the sharpest places.
        clutter: detail on the whole.
        grain: noise.
        motion: `motion`, like the next two; fractions of the object's diagonal per frame.
        peak_motion: of the fastest parts in the fastest frame.
        smoothness: displacement over two frames divided by that over one.
        render_hash: `duplicates`, hexadecimal.
        lpips: `lpips`; None where it is not measured.
    """

    coverage: float
    cut_off: float
    sharpness: float
    clutter: float
    grain: float
    motion: float
    peak_motion: float
    smoothness: float
    render_hash: str
    lpips: float | None = None

    @property
    def numbers(self) -> dict[str, float | None]:
        """The scores without the hash, by name."""
        return {name: value for name, value in asdict(self).items() if name != "render_hash"}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Scores:
        """What `asdict` made; TypeError or ValueError if it is anything else."""
        if values.keys() != {each.name for each in fields(cls)}:
            raise ValueError(f"expected the scores of a grid, found {sorted(values)}")
        return cls(**values)
